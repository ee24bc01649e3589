#include "runtime/staging.h"

#include <algorithm>

namespace longer {

Staging::Staging(std::shared_ptr<Device> device) : device_(std::move(device)), arrived_(device_->create_event()) {}

Staging::~Staging() {
  release_host();
  try {
    device_->destroy(arrived_);
  } catch (...) {  // of a device that failed; whoever ran on it was told
  }
}

void Staging::reserve(int64_t bytes) {
  if (bytes <= memory_.bytes()) return;
  const int64_t grown = std::max(bytes, memory_.bytes() + memory_.bytes() / 4);
  memory_.release();
  release_host();
  host_ = device_->allocate_host(grown);
  memory_ = DeviceMemory(device_, grown);
}

void Staging::release_host() noexcept {
  try {
    if (host_) device_->release_host(host_);
  } catch (...) {
  }
  host_ = nullptr;
}

}  // namespace longer
