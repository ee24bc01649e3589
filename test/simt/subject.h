// The device that the tests of operations and plans run on: the emulated one, or in programs that link CUDA's (test/gpu) the first GPU.
#pragma once
#include <memory>

#include "runtime/device.h"

namespace simt {

extern const bool emulated;  // schedules can be chosen and costs are counted

std::unique_ptr<longer::Device> open_subject();

}  // namespace simt
