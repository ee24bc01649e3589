// What JavaScript holds: externals that own a share of a native object and can be emptied before they are collected.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "plan/executor.h"
#include "plan/state.h"
#include "runtime/error.h"
#include "runtime/worker.h"

namespace longer::addon {

// Tells V8 of memory outside its heap; takes back on destruction exactly what was told. Lives on the JavaScript thread.
class ExternalBytes {
 public:
  explicit ExternalBytes(napi_env env) : env_(env) {}
  ~ExternalBytes() { report(0); }
  ExternalBytes(const ExternalBytes&) = delete;
  ExternalBytes& operator=(const ExternalBytes&) = delete;
  void report(int64_t bytes) {
    int64_t total;
    if (bytes != reported_) napi_adjust_external_memory(env_, bytes - reported_, &total);
    reported_ = bytes;
  }

 private:
  napi_env env_;
  int64_t reported_ = 0;
};

// Each is shared by its handle, by the plans made of it and by the jobs in flight.
struct RuntimeBox {
  static constexpr uint32_t kKind = 0x4c525431;
  static constexpr const char* kName = "runtime";
  RuntimeBox(napi_env env, int threads, std::shared_ptr<Device> device, int niceness)
      : runtime(std::make_shared<Runtime>(threads, std::move(device), niceness)), bytes(env) {}
  std::shared_ptr<Runtime> runtime;
  ExternalBytes bytes;  // of the arena
};

struct StateBox {
  static constexpr uint32_t kKind = 0x4c525432;
  static constexpr const char* kName = "state";
  StateBox(napi_env env, const std::vector<StoreDescription>& stores, Backend backend, std::shared_ptr<Device> device)
      : state(std::make_shared<State>(stores, backend, std::move(device))), bytes(env) {
    if (!state->device()) bytes.report(state->bytes());
  }
  std::shared_ptr<State> state;
  ExternalBytes bytes;
};

struct PlanBox {
  static constexpr uint32_t kKind = 0x4c525433;
  static constexpr const char* kName = "plan";
  PlanBox(GraphDescription graph, std::shared_ptr<StateBox> s, std::shared_ptr<RuntimeBox> r, Backend backend)
      : runtime(std::move(r)), state(std::move(s)), executor(std::move(graph), state->state, runtime->runtime, backend) {}
  std::shared_ptr<RuntimeBox> runtime;
  std::shared_ptr<StateBox> state;
  Executor executor;
};

struct MemoryBox {
  static constexpr uint32_t kKind = 0x4c525434;
  static constexpr const char* kName = "memory";
  MemoryBox(napi_env env, std::shared_ptr<Device> on, int64_t size) : device(std::move(on)), memory(std::make_shared<DeviceMemory>(device, size)), bytes(env) {
    bytes.report(size);
  }
  std::shared_ptr<Device> device;
  std::shared_ptr<DeviceMemory> memory;  // shared with requests in flight
  ExternalBytes bytes;
};

template <class Box>
struct Handle {
  uint32_t kind = Box::kKind;  // first, so that a handle of another kind is told apart
  std::shared_ptr<Box> box;
};

template <class Box>
Napi::Value make_handle(Napi::Env env, std::shared_ptr<Box> box) {
  auto* handle = new Handle<Box>{Box::kKind, std::move(box)};
  return Napi::External<Handle<Box>>::New(env, handle, [](Napi::Env, Handle<Box>* h) { delete h; });
}

template <class Box>
Handle<Box>& handle_of(const Napi::Value& value) {
  if (value.IsExternal()) {
    auto* handle = value.As<Napi::External<Handle<Box>>>().Data();
    if (handle && handle->kind == Box::kKind) return *handle;
  }
  throw Napi::TypeError::New(value.Env(), std::string("expected a ") + Box::kName + " handle");
}

template <class Box>
std::shared_ptr<Box> box_of(const Napi::Value& value) {
  std::shared_ptr<Box> box = handle_of<Box>(value).box;
  if (!box) throw Error("ERR_DISPOSED", std::string("the ") + Box::kName + " was disposed");
  return box;
}

}  // namespace longer::addon
