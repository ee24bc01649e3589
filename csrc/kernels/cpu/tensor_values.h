#pragma once
#include <stdexcept>

#include "kernels/cpu/values.h"
#include "runtime/tensor.h"

namespace longer::cpu {

inline Values values(const Tensor& t) {
  if (!t.present()) return {};
  if (t.dtype != DType::f32 && t.dtype != DType::bf16) throw std::runtime_error("the cpu kernels take f32 and bf16");
  return {t.data, t.dtype == DType::bf16};
}

// For tensors that are always f32; null where absent.
inline float* floats(const Tensor& t) {
  if (!t.present()) return nullptr;
  if (t.dtype != DType::f32) throw std::runtime_error("this tensor must be f32");
  return t.f32();
}

}  // namespace longer::cpu
