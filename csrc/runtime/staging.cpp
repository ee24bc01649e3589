#include "runtime/staging.h"

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
  if (host_ && bytes <= memory_.bytes()) return;
  release_host();
  memory_.grow(device_, bytes);
  host_ = device_->allocate_host(memory_.bytes());
}

void Staging::release_host() noexcept {
  try {
    if (host_) device_->release_host(host_);
  } catch (...) {
  }
  host_ = nullptr;
}

}  // namespace longer
