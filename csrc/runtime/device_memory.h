// Memory of a device that goes back when its owner goes.
#pragma once
#include <cstdint>
#include <memory>
#include <utility>

#include "runtime/device.h"
#include "runtime/error.h"

namespace longer {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(std::shared_ptr<Device> device, int64_t bytes) : device_(std::move(device)), data_(device_->allocate(bytes)), bytes_(bytes) {}
  ~DeviceMemory() { release(); }
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept { swap(other); return *this; }

  void* data() const { return data_; }
  Device* device() const { return device_.get(); }
  int64_t bytes() const { return bytes_; }

  // At least so many bytes, contents undefined: a quarter more than it has, where that can be had.
  void grow(const std::shared_ptr<Device>& device, int64_t bytes) {
    if (bytes <= bytes_) return;
    const int64_t grown = bytes_ + bytes_ / 4;
    release();  // first: the two need not fit side by side
    if (grown > bytes) {
      try {
        *this = DeviceMemory(device, grown);
        return;
      } catch (const Error&) {  // then as much as is needed
      }
    }
    *this = DeviceMemory(device, bytes);
  }

  void release() noexcept {
    try {
      if (data_) device_->release(data_);
    } catch (...) {  // a device that failed gives nothing back, and whoever ran on it was told
    }
    data_ = nullptr;
    bytes_ = 0;
  }

 private:
  void swap(DeviceMemory& other) {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace longer
