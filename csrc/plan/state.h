// Persistent memory by name: parameters, optimizer moments, tables.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "plan/prepared.h"
#include "runtime/arena.h"
#include "runtime/device_memory.h"
#include "runtime/tensor.h"

namespace longer {

enum class Backend : uint8_t { cpu, reference, cuda };

struct StoreDescription {
  std::string name;
  DType dtype = DType::f32;  // f32 or i32
  int64_t size = 0;          // elements
};

struct Store {
  std::string name;
  DType declared;
  DType held;  // f64 for the f32 stores of the reference backend
  int64_t size;
  void* data = nullptr;  // device memory for the cuda backend
  MemoryBlock host;
  DeviceMemory on_device;
};

class State {
 public:
  // Zeroed. The cuda backend has its stores on the device, the others know none.
  State(const std::vector<StoreDescription>& stores, Backend backend, std::shared_ptr<Device> device = nullptr);

  Backend backend() const { return backend_; }
  const Device* device() const { return device_.get(); }
  int64_t bytes() const { return bytes_; }
  Store* find(const std::string& name);  // nullptr when unknown

  // Elements from `offset`, converted between f32 and f64 where the two differ.
  // Refused while a queued or running plan uses what would be torn: see begin_run().
  void read(const std::string& store, int64_t offset, const Tensor& into);
  void write(const std::string& store, int64_t offset, const Tensor& from);

  // Around every queued run, from posting to settling.
  void begin_run(bool writes) { ++users_; if (writes) ++writers_, ++version_; }
  void end_run(bool writes) { --users_; if (writes) --writers_, ++version_; }

  // Another one after every change; forms of weights that were prepared are of a version.
  uint64_t version() const { return version_.load(); }
  PreparedWeights& prepared() { return prepared_; }

 private:
  char* range(const std::string& store, int64_t offset, const Tensor& other, DType* held);
  void add(const StoreDescription& store);

  std::vector<std::unique_ptr<Store>> stores_;
  Backend backend_;
  std::shared_ptr<Device> device_;
  int64_t bytes_ = 0;
  std::atomic<int> users_{0}, writers_{0};
  std::atomic<uint64_t> version_{1};
  PreparedWeights prepared_;
};

}  // namespace longer
