#include "plan/state.h"

#include "plan/convert.h"
#include "runtime/error.h"

namespace longer {

State::State(const std::vector<StoreDescription>& stores, Backend backend, std::shared_ptr<Device> device)
    : backend_(backend), device_(std::move(device)) {
  if ((backend_ == Backend::cuda) != (device_ != nullptr)) throw graph_error("a state of the cuda backend needs a device, any other has none");
  for (const StoreDescription& store : stores) add(store);
  if (device_) device_->synchronize({});
}

void State::add(const StoreDescription& s) {
  if (find(s.name)) throw graph_error("two stores are called '" + s.name + "'");
  if (s.dtype != DType::f32 && s.dtype != DType::i32) throw graph_error("store '" + s.name + "': only f32 and i32 are held");
  if (s.size < 0) throw graph_error("store '" + s.name + "': a negative size");
  if (s.size > (int64_t{1} << 46)) throw memory_error("store '" + s.name + "' is too large");
  auto store = std::make_unique<Store>();
  store->name = s.name;
  store->declared = s.dtype;
  store->held = backend_ == Backend::reference && s.dtype == DType::f32 ? DType::f64 : s.dtype;
  store->size = s.size;
  const int64_t bytes = s.size * dtype_size(store->held);
  if (device_) {
    store->on_device = DeviceMemory(device_, bytes);
    device_->fill(store->on_device.data(), 0, bytes, {});
    store->data = store->on_device.data();
  } else {
    store->host = MemoryBlock(bytes);
    store->data = store->host.data();
  }
  bytes_ += bytes;
  stores_.push_back(std::move(store));
}

Store* State::find(const std::string& name) {
  for (const auto& store : stores_)
    if (store->name == name) return store.get();
  return nullptr;
}

char* State::range(const std::string& name, int64_t offset, const Tensor& other, DType* held) {
  Store* store = find(name);
  if (!store) throw graph_error("there is no store '" + name + "'");
  if (!convertible(other.dtype, store->held)) throw shape_error("store '" + name + "': the array has another type");
  if (offset < 0 || offset > store->size || other.size() > store->size - offset)
    throw shape_error("store '" + name + "': elements " + std::to_string(offset) + " to " + std::to_string(offset + other.size()) +
                      " are outside its " + std::to_string(store->size));
  *held = store->held;
  return static_cast<char*>(store->data) + offset * dtype_size(store->held);
}

void State::read(const std::string& name, int64_t offset, const Tensor& into) {
  DType held;
  const char* from = range(name, offset, into, &held);
  if (writers_.load() > 0) throw Error("ERR_BUSY", "store '" + name + "' is being written by a run that has not settled: await it first");
  if (!device_) return convert(from, held, into.data, into.dtype, into.size());
  const int64_t bytes = into.size() * dtype_size(held);
  MemoryBlock copy(into.dtype == held ? 0 : bytes);
  void* to = into.dtype == held ? into.data : copy.data();
  device_->copy_out(to, from, bytes, {});
  device_->synchronize({});
  if (to != into.data) convert(to, held, into.data, into.dtype, into.size());
}

void State::write(const std::string& name, int64_t offset, const Tensor& from) {
  DType held;
  char* to = range(name, offset, from, &held);
  if (users_.load() > 0) throw Error("ERR_BUSY", "store '" + name + "' is in use by a run that has not settled: await it first");
  if (device_) {
    const int64_t bytes = from.size() * dtype_size(held);
    MemoryBlock copy(from.dtype == held ? 0 : bytes);
    if (from.dtype != held) convert(from.data, from.dtype, copy.data(), held, from.size());
    device_->copy_in(to, from.dtype == held ? from.data : copy.data(), bytes, {});
    device_->synchronize({});
  } else {
    convert(from.data, from.dtype, to, held, from.size());
  }
  ++version_;
}

}  // namespace longer
