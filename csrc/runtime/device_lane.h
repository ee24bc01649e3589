// What a runtime has on its device: a stream, on which its runs follow one another, one for copies beside it, scratch memory that
// they share, and two stagings: of the run under way and of the next. From the runtime's thread.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "runtime/device_memory.h"
#include "runtime/staging.h"

namespace longer {

class DeviceLane {
 public:
  explicit DeviceLane(std::shared_ptr<Device> device);
  ~DeviceLane();
  DeviceLane(const DeviceLane&) = delete;
  DeviceLane& operator=(const DeviceLane&) = delete;

  const std::shared_ptr<Device>& device() const { return device_; }
  Stream stream() const { return stream_; }
  Stream copies() const { return copies_; }
  Staging& take_staging();
  // While nothing is queued on the stream; contents undefined, valid until the next call. Never shrinks.
  uint8_t* reserve(int64_t bytes);
  int64_t scratch_bytes() const { return scratch_bytes_.load(std::memory_order_relaxed); }  // what was reserved; from any thread
  // Until what is queued on the stream has run. Meanwhile `next` is asked, until it says that it did something.
  void wait();
  std::function<bool()> next;

 private:
  std::shared_ptr<Device> device_;
  Stream stream_, copies_;
  Event done_;
  DeviceMemory scratch_;
  std::atomic<int64_t> scratch_bytes_{0};
  std::array<Staging, 2> stagings_;
};

}  // namespace longer
