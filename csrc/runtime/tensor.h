// A view of memory with a dtype and a shape. Owns nothing.
#pragma once
#include <cstdint>

namespace longer {

enum class DType : uint8_t { f32 = 0, bf16 = 1, f64 = 2, i32 = 3, f16 = 4 };

inline int64_t dtype_size(DType t) {
  switch (t) {
    case DType::f32: return 4;
    case DType::bf16: return 2;
    case DType::f16: return 2;
    case DType::f64: return 8;
    case DType::i32: return 4;
  }
  return 0;
}

// Row-major and dense: dim[rank-1] is contiguous. An absent optional tensor has rank -1.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = -1;
  int64_t dim[4] = {1, 1, 1, 1};

  bool present() const { return rank >= 0; }
  int64_t rows() const { return rank > 0 ? dim[0] : 1; }
  int64_t cols() const {  // elements a row
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= dim[i];
    return n;
  }
  int64_t size() const { return rows() * cols(); }
  int64_t bytes() const { return size() * dtype_size(dtype); }
  float* f32() const { return static_cast<float*>(data); }
  double* f64() const { return static_cast<double*>(data); }
  uint16_t* bf16() const { return static_cast<uint16_t*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }
};

}  // namespace longer
