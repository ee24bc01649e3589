#include "plan/state.h"

#include "plan/convert.h"
#include "runtime/error.h"

namespace longer {

State::State(const std::vector<StoreDescription>& stores, Backend backend) : backend_(backend) {
  for (const StoreDescription& s : stores) {
    if (find(s.name)) throw graph_error("two stores are called '" + s.name + "'");
    if (s.dtype != DType::f32 && s.dtype != DType::i32) throw graph_error("store '" + s.name + "': only f32 and i32 are held");
    if (s.size < 0) throw graph_error("store '" + s.name + "': a negative size");
    if (s.size > (int64_t{1} << 46)) throw memory_error("store '" + s.name + "' is too large");
    const DType held = backend == Backend::reference && s.dtype == DType::f32 ? DType::f64 : s.dtype;
    const int64_t bytes = s.size * dtype_size(held);
    stores_.push_back(std::make_unique<Store>(Store{s.name, s.dtype, held, s.size, MemoryBlock(bytes)}));
    bytes_ += bytes;
  }
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
  return static_cast<char*>(store->memory.data()) + offset * dtype_size(store->held);
}

void State::read(const std::string& name, int64_t offset, const Tensor& into) {
  DType held;
  const char* from = range(name, offset, into, &held);
  if (writers_.load() > 0) throw Error("ERR_BUSY", "store '" + name + "' is being written by a run that has not settled: await it first");
  convert(from, held, into.data, into.dtype, into.size());
}

void State::write(const std::string& name, int64_t offset, const Tensor& from) {
  DType held;
  char* to = range(name, offset, from, &held);
  if (users_.load() > 0) throw Error("ERR_BUSY", "store '" + name + "' is in use by a run that has not settled: await it first");
  convert(from.data, from.dtype, to, held, from.size());
  ++version_;
}

}  // namespace longer
