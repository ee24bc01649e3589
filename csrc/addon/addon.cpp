// Node-API: unpack, call, hand out promises. lib/native/types.ts is the typed mirror of this file.
#include <napi.h>

#include <cstring>
#include <memory>

#include "addon/environment.h"
#include "addon/guard.h"
#include "addon/handles.h"
#include "addon/device_memory.h"
#include "addon/job.h"
#include "addon/reports.h"
#include "addon/unpack.h"

// libstdc++'s shared_ptr would read this symbol of glibc 2.32; our own keeps older systems working.
#if defined(__linux__) && defined(__GLIBC__)
extern "C" __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0;
#endif

namespace longer::addon {

namespace {

Napi::Value create_runtime(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "threads: expected a number");
  const int niceness = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
  const std::string name = info[2].IsString() ? std::string(info[2].As<Napi::String>()) : "cpu";
  std::shared_ptr<Device> device = name == "cpu" ? nullptr : shared_device(name);
  return make_handle(info.Env(), std::make_shared<RuntimeBox>(info.Env(), info[0].As<Napi::Number>().Int32Value(), std::move(device), niceness));
}

Napi::Value create_state(const Napi::CallbackInfo& info) {
  const Backend backend = backend_of(info[1]);
  DeviceLane* lane = backend == Backend::cuda ? box_of<RuntimeBox>(info[2])->runtime->lane() : nullptr;
  return make_handle(info.Env(), std::make_shared<StateBox>(info.Env(), stores_of(info[0]), backend, lane ? lane->device() : nullptr));
}

// An ArrayBuffer over a block of its own: aligned, in huge pages where the system has them, and all there from the start.
Napi::Value create_memory(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "bytes: expected a number");
  auto block = std::make_unique<MemoryBlock>(info[0].As<Napi::Number>().Int64Value());
  std::memset(block->data(), 0, static_cast<size_t>(block->bytes()));
  MemoryBlock* owned = block.get();
  const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), owned->data(), static_cast<size_t>(owned->bytes()),
                                                          [owned](Napi::Env, void*) { delete owned; });
  block.release();
  return buffer;
}

template <class Box>
Napi::Value release(const Napi::CallbackInfo& info) {
  handle_of<Box>(info[0]).box.reset();
  return info.Env().Undefined();
}

template <void (State::*Transfer)(const std::string&, int64_t, const Tensor&)>
Napi::Value transfer(const Napi::CallbackInfo& info) {
  const auto box = box_of<StateBox>(info[0]);
  if (!info[1].IsString()) throw Napi::TypeError::New(info.Env(), "store: expected a string");
  if (!info[2].IsNumber()) throw Napi::TypeError::New(info.Env(), "offset: expected a number");
  const Borrowed array = array_of(info[3], "array");
  if (array.dtype == DType::bf16) throw Napi::TypeError::New(info.Env(), "array: expected a Float32Array, Float64Array or Int32Array");
  Tensor tensor;
  tensor.data = array.data;
  tensor.dtype = array.dtype;
  tensor.rank = 1;
  tensor.dim[0] = array.count;
  ((*box->state).*Transfer)(info[1].As<Napi::String>(), info[2].As<Napi::Number>().Int64Value(), tensor);
  return info.Env().Undefined();
}

Napi::Value compile(const Napi::CallbackInfo& info) {
  auto state = box_of<StateBox>(info[1]);
  auto runtime = box_of<RuntimeBox>(info[2]);
  return make_handle(info.Env(), std::make_shared<PlanBox>(graph_of(info[0]), std::move(state), std::move(runtime), backend_of(info[3])));
}

Napi::Value plan_memory(const Napi::CallbackInfo& info) {
  return memory_report(info.Env(), box_of<PlanBox>(info[0])->executor.promise(sizes_of(info[1])));
}

// Unpacks a list of arrays for the values named; null means that nobody takes the output.
std::vector<Borrowed> arrays_of(const Napi::Value& list, const CompiledGraph& graph, const std::vector<int>& values, const char* kind) {
  if (!list.IsArray()) throw Napi::TypeError::New(list.Env(), std::string(kind) + "s: expected an array");
  const Napi::Array given = list.As<Napi::Array>();
  std::vector<Borrowed> arrays(given.Length());
  for (uint32_t i = 0; i < given.Length(); ++i) {
    const Napi::Value value = given.Get(i);
    if (read_array(value, arrays[i])) {
      const bool half = i < values.size() && graph.values()[static_cast<size_t>(values[i])].dtype == DType::f16;
      if (half && arrays[i].dtype == DType::bf16) arrays[i].dtype = DType::f16;  // a Uint16Array holds the bits of either
      continue;
    }
    if (value.IsNull() || value.IsUndefined()) continue;
    const std::string name = i < values.size() ? graph.values()[static_cast<size_t>(values[i])].name : std::to_string(i);
    const std::string what = std::string(kind) + " '" + name + "'";
    if (!read_device_array(value, arrays[i], what)) array_of(value, what);
  }
  return arrays;
}

Napi::Value run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto plan = box_of<PlanBox>(info[0]);
  const CompiledGraph& graph = plan->executor.graph();
  auto request = std::make_unique<RunRequest>();
  request->sizes = sizes_of(info[1]);
  Napi::Array keep = Napi::Array::New(env, 2);
  keep.Set(0u, info[2]);
  keep.Set(1u, info[3]);
  request->inputs = arrays_of(info[2], graph, graph.inputs(), "input");
  request->outputs = arrays_of(info[3], graph, graph.outputs(), "output");
  double here_below = 0;
  if (info[4].IsObject()) {
    const Napi::Object options = info[4].As<Napi::Object>();
    request->profile = options.Get("profile").ToBoolean();
    request->check_finite = options.Get("checkFinite").ToBoolean();
    const Napi::Value below = options.Get("hereBelow");
    if (below.IsNumber()) here_below = below.As<Napi::Number>().DoubleValue();
  }
  plan->executor.check(*request);
  return Job::start(env, std::make_unique<Job>(Environment::of(env), std::move(plan), std::move(request), keep), here_below);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  add("version", guarded<version>);
  add("devices", guarded<devices>);
  add("operations", guarded<operations>);
  add("createRuntime", guarded<create_runtime>);
  add("freeRuntime", guarded<release<RuntimeBox>>);
  add("createMemory", guarded<create_memory>);
  add("createState", guarded<create_state>);
  add("freeState", guarded<release<StateBox>>);
  add("readState", guarded<transfer<&State::read>>);
  add("writeState", guarded<transfer<&State::write>>);
  add("createDeviceMemory", guarded<create_device_memory>);
  add("freeDeviceMemory", guarded<release<MemoryBox>>);
  add("readDeviceMemory", guarded<read_device_memory>);
  add("writeDeviceMemory", guarded<write_device_memory>);
  add("copyDeviceMemory", guarded<copy_device_memory>);
  add("deviceUse", guarded<device_use>);
  add("compile", guarded<compile>);
  add("freePlan", guarded<release<PlanBox>>);
  add("planMemory", guarded<plan_memory>);
  add("run", guarded<run>);
  return exports;
}

}  // namespace

NODE_API_MODULE(longer_rec, init)

}  // namespace longer::addon
