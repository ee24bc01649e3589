#include "addon/reports.h"

#include "kernels/cuda/probe.h"
#include "kernels/op.h"
#include "runtime/cpu_features.h"
#include "runtime/worker.h"

#ifndef LONGER_VERSION
#define LONGER_VERSION "0.0.0"
#endif

namespace longer::addon {

namespace {
Napi::Array strings(Napi::Env env, const std::vector<std::string>& list) {
  Napi::Array array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) array.Set(i, list[i]);
  return array;
}
}  // namespace

Napi::Value version(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), LONGER_VERSION); }

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CpuFeatures& features = cpu_features();
  Napi::Object cpu = Napi::Object::New(env);
  cpu.Set("isa", isa_name(active_isa()));
  cpu.Set("avx2", features.avx2);
  cpu.Set("avx512", features.avx512);
  cpu.Set("avx512bf16", features.avx512bf16);
  cpu.Set("amx", features.amx);
  cpu.Set("threads", available_threads());
  const CudaState state = cuda_state();
  Napi::Object cuda = Napi::Object::New(env);
  cuda.Set("built", state.built);
  cuda.Set("usable", state.usable);
  cuda.Set("reason", state.reason);
  cuda.Set("driverVersion", state.driver_version);
  cuda.Set("runtimeVersion", state.runtime_version);
  cuda.Set("devices", strings(env, state.names));
  Napi::Object report = Napi::Object::New(env);
  report.Set("cpu", cpu);
  report.Set("cuda", cuda);
  return report;
}

Napi::Value operations(const Napi::CallbackInfo& info) { return strings(info.Env(), op_names()); }

Napi::Value memory_report(Napi::Env env, const MemoryPromise& promise) {
  Napi::Array largest = Napi::Array::New(env, promise.largest.size());
  for (uint32_t i = 0; i < promise.largest.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", promise.largest[i].first);
    entry.Set("bytes", static_cast<double>(promise.largest[i].second));
    largest.Set(i, entry);
  }
  Napi::Object report = Napi::Object::New(env);
  report.Set("arena", static_cast<double>(promise.arena));
  report.Set("largest", largest);
  return report;
}

}  // namespace longer::addon
