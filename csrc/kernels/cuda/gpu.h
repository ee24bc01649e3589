// The GPU that this thread launches on, as kernels are chosen for it.
#pragma once
#include <cstdlib>
#include <limits>

namespace longer {

struct Gpu {
  int architecture;  // 80, 90, 100...
  int processors;    // streaming multiprocessors
  bool wgmma;        // it is an sm_90, and this binary has code for sm_90a
};

// Waits for nothing, and may be called while a stream is captured.
Gpu current_gpu();

// LONGER_GPU_ARCHITECTURE, where it is set: a GPU that is newer gets the kernels of that architecture, so that the two can be compared.
inline int asked_architecture() {
  static const int asked = [] {
    const char* value = std::getenv("LONGER_GPU_ARCHITECTURE");
    return value ? std::atoi(value) : std::numeric_limits<int>::max();
  }();
  return asked;
}

}  // namespace longer
