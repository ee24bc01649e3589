// How an operation divides its workspace.
#pragma once
#include <cstdint>

#include "kernels/cuda/launch.cuh"

namespace longer::cuda {

// Parts of a workspace, each at a multiple of 256 bytes; from null, only their sizes.
class Parts {
 public:
  explicit Parts(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    const int64_t at = bytes_;
    bytes_ += divide_up(count * static_cast<int64_t>(sizeof(T)), 256) * 256;
    return memory_ ? reinterpret_cast<T*>(memory_ + at) : nullptr;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace longer::cuda
