#include "addon/device_memory.h"

#include "addon/handles.h"
#include "addon/unpack.h"

namespace longer::addon {

namespace {

int64_t whole(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string(what) + ": expected a number");
  return value.As<Napi::Number>().Int64Value();
}

Device& device_of(const RuntimeBox& runtime) {
  if (!runtime.runtime->lane()) throw Error("ERR_DEVICE", "the runtime has no device but the CPU");
  return *runtime.runtime->lane()->device();
}

char* part(const MemoryBox& box, int64_t offset, int64_t bytes) {
  if (offset < 0 || bytes < 0 || offset > box.memory->bytes() || bytes > box.memory->bytes() - offset)
    throw shape_error("bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) + " are outside of " + std::to_string(box.memory->bytes()));
  return static_cast<char*>(box.memory->data()) + offset;
}

template <class Transfer>
Napi::Value transfer(const Napi::CallbackInfo& info, Transfer&& move) {
  const auto box = box_of<MemoryBox>(info[0]);
  const Borrowed array = array_of(info[2], "array");
  const int64_t bytes = array.count * dtype_size(array.dtype);
  move(*box->device, part(*box, whole(info[1], "offset"), bytes), array.data, bytes);
  box->device->synchronize({});
  return info.Env().Undefined();
}

}  // namespace

Napi::Value create_device_memory(const Napi::CallbackInfo& info) {
  const auto runtime = box_of<RuntimeBox>(info[0]);
  device_of(*runtime);
  auto box = std::make_shared<MemoryBox>(info.Env(), runtime->runtime->lane()->device(), whole(info[1], "bytes"));
  box->device->fill(box->memory->data(), 0, box->memory->bytes(), {});
  box->device->synchronize({});
  return make_handle(info.Env(), std::move(box));
}

Napi::Value read_device_memory(const Napi::CallbackInfo& info) {
  return transfer(info, [](Device& device, char* there, void* here, int64_t bytes) { device.copy_out(here, there, bytes, {}); });
}

Napi::Value write_device_memory(const Napi::CallbackInfo& info) {
  return transfer(info, [](Device& device, char* there, void* here, int64_t bytes) { device.copy_in(there, here, bytes, {}); });
}

Napi::Value copy_device_memory(const Napi::CallbackInfo& info) {
  const auto box = box_of<MemoryBox>(info[0]);
  const std::vector<double> pairs = sizes_of(info[1]);
  const int64_t bytes = whole(info[2], "bytes");
  for (size_t i = 0; i + 1 < pairs.size(); i += 2)
    box->device->copy(part(*box, static_cast<int64_t>(pairs[i + 1]), bytes), part(*box, static_cast<int64_t>(pairs[i]), bytes), bytes, {});
  box->device->synchronize({});
  return info.Env().Undefined();
}

Napi::Value device_use(const Napi::CallbackInfo& info) {
  const auto runtime = box_of<RuntimeBox>(info[0]);
  const Device& device = device_of(*runtime);
  const DeviceUse use = device.use();
  Napi::Object report = Napi::Object::New(info.Env());
  report.Set("copiedIn", static_cast<double>(use.copied_in));
  report.Set("copiedOut", static_cast<double>(use.copied_out));
  report.Set("allocated", static_cast<double>(use.allocated));
  report.Set("available", static_cast<double>(device.available()));
  report.Set("scratch", static_cast<double>(runtime->runtime->lane()->scratch_bytes()));
  report.Set("graphLaunches", static_cast<double>(use.graph_launches));
  return report;
}

}  // namespace longer::addon
