// From the tensors of a call to typed pointers.
#pragma once
#include <limits>
#include <string>
#include <type_traits>

#include "kernels/cuda/element.cuh"
#include "runtime/error.h"
#include "runtime/tensor.h"

namespace longer::cuda {

template <class T>
T* data(const Tensor& t) { return t.present() ? static_cast<T*>(t.data) : nullptr; }

template <class T>
constexpr DType dtype_of() { return std::is_same_v<T, Bf16> ? DType::bf16 : std::is_same_v<T, Half> ? DType::f16 : DType::f32; }

// Calls `run` with a value of the tensor's element type.
template <class Run>
void with_type(const Tensor& t, Run run) {
  switch (t.dtype) {
    case DType::f32: return run(float{});
    case DType::bf16: return run(Bf16{});
    case DType::f16: return run(Half{});
    default: throw shape_error("the device takes f32, bf16 and f16 only");
  }
}

inline int narrow(const char* op, int64_t size) {
  if (size > std::numeric_limits<int>::max()) throw shape_error(std::string(op) + ": a row is longer than 2^31 - 1 elements");
  return static_cast<int>(size);
}

inline unsigned grid_size(const char* op, int64_t blocks) {
  if (blocks > std::numeric_limits<int>::max()) throw shape_error(std::string(op) + ": more rows than a grid has blocks");
  return static_cast<unsigned>(blocks);
}

}  // namespace longer::cuda
