#include "simt/subject.h"

#include "simt/emulated_device.h"

namespace simt {

const bool emulated = true;

std::unique_ptr<longer::Device> open_subject() { return open_emulated_device(); }

}  // namespace simt
