#include "runtime/device_lane.h"

#include <algorithm>

#include "runtime/error.h"

namespace longer {

DeviceLane::DeviceLane(std::shared_ptr<Device> device)
    : device_(std::move(device)), stream_(device_->create_stream()), fault_(device_, sizeof(int32_t)) {}

DeviceLane::~DeviceLane() {
  try {
    device_->destroy(stream_);
  } catch (...) {  // of a device that failed; whoever ran on it was told
  }
}

uint8_t* DeviceLane::reserve(int64_t bytes) {
  if (bytes > scratch_.bytes()) {
    const int64_t grown = scratch_.bytes() + scratch_.bytes() / 4;
    scratch_.release();  // first: the two need not fit side by side
    try {
      scratch_ = DeviceMemory(device_, std::max(bytes, grown));
    } catch (const Error&) {
      if (grown <= bytes) throw;
      scratch_ = DeviceMemory(device_, bytes);
    }
  }
  return static_cast<uint8_t*>(scratch_.data());
}

}  // namespace longer
