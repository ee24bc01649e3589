#include "runtime/device_lane.h"

#include <stdexcept>
#include <thread>

namespace longer {

DeviceLane::DeviceLane(std::shared_ptr<Device> device)
    : device_(std::move(device)), stream_(device_->create_stream()), copies_(device_->create_stream()), done_(device_->create_event()), stagings_{Staging(device_), Staging(device_)} {}

DeviceLane::~DeviceLane() {
  try {
    device_->destroy(done_);
    device_->destroy(copies_);
    device_->destroy(stream_);
  } catch (...) {  // of a device that failed; whoever ran on it was told
  }
}

Staging& DeviceLane::take_staging() {
  for (Staging& s : stagings_) {
    if (s.taken) continue;
    s.taken = true;
    return s;
  }
  throw std::logic_error("a lane has one run under way and prepares one");
}

uint8_t* DeviceLane::reserve(int64_t bytes) {
  scratch_bytes_ = 0;  // where it cannot be had, nothing is kept
  scratch_.grow(device_, bytes);
  scratch_bytes_ = scratch_.bytes();
  return static_cast<uint8_t*>(scratch_.data());
}

void DeviceLane::wait() {
  if (next) {
    device_->record(done_, stream_);
    while (!device_->happened(done_) && !next()) std::this_thread::yield();
  }
  device_->synchronize(stream_);
}

}  // namespace longer
