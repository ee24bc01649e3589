// What a runtime has on its device: a stream, on which its runs follow one another, and scratch memory that they share.
#pragma once
#include <cstdint>
#include <memory>

#include "runtime/device_memory.h"

namespace longer {

class DeviceLane {
 public:
  explicit DeviceLane(std::shared_ptr<Device> device);
  ~DeviceLane();
  DeviceLane(const DeviceLane&) = delete;
  DeviceLane& operator=(const DeviceLane&) = delete;

  const std::shared_ptr<Device>& device() const { return device_; }
  Stream stream() const { return stream_; }
  int32_t* fault() const { return static_cast<int32_t*>(fault_.data()); }  // cuda::Queue::fault of the run
  // From the runtime's thread, while nothing is queued; contents undefined, valid until the next call. Never shrinks.
  uint8_t* reserve(int64_t bytes);

 private:
  std::shared_ptr<Device> device_;
  Stream stream_;
  DeviceMemory fault_, scratch_;
};

}  // namespace longer
