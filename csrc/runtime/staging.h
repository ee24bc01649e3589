// Where the host and a run on a device meet: pinned memory, and memory of the device of the same layout.
#pragma once
#include <cstdint>
#include <memory>

#include "runtime/device_memory.h"

namespace longer {

class Staging {
 public:
  explicit Staging(std::shared_ptr<Device> device);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // While no copy between the two is queued. Contents undefined; never shrinks.
  void reserve(int64_t bytes);
  uint8_t* host() const { return static_cast<uint8_t*>(host_); }
  uint8_t* device() const { return static_cast<uint8_t*>(memory_.data()); }
  Event arrived() const { return arrived_; }  // the inputs are on the device

  bool taken = false;  // by a run, or for the next one

 private:
  void release_host() noexcept;

  std::shared_ptr<Device> device_;
  Event arrived_;
  void* host_ = nullptr;
  DeviceMemory memory_;
};

}  // namespace longer
