// Looks for NaN and Inf in what a node has written, as plan/finite.h does on the host.
#include "kernels/cuda/kernels.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Look {
  const void* data;
  DType dtype;
  bool minus_infinity;   // is allowed
  const int32_t* rows;   // how many of them are written; null: all
  int64_t width;
  int32_t *word, code;

  __device__ bool bad(int64_t i) const {
    switch (dtype) {
      case DType::f32: {
        const uint32_t bits = static_cast<const uint32_t*>(data)[i];
        return (bits & 0x7f800000u) == 0x7f800000u && !(minus_infinity && bits == 0xff800000u);
      }
      case DType::bf16: return (static_cast<const uint16_t*>(data)[i] & 0x7f80u) == 0x7f80u;
      case DType::f16: return (static_cast<const uint16_t*>(data)[i] & 0x7c00u) == 0x7c00u;
      case DType::f64: return (static_cast<const uint64_t*>(data)[i] & 0x7ff0000000000000ull) == 0x7ff0000000000000ull;
      case DType::i32: return false;
    }
    return false;
  }
  __device__ void operator()(int64_t at, int count) const {
    const int64_t end = rows ? min(at + count, *rows * width) : at + count;
    for (int64_t i = at; i < end; ++i)
      if (bad(i)) return report(word, code);
  }
};

}  // namespace

void look_for_non_finite(const char* op, const Call& call, Stream stream, int32_t* word, int32_t code) {
  const bool sparse = !std::strcmp(op, "sparse_grad");
  const bool attention = !std::strcmp(op, "attention") || !std::strcmp(op, "candidate_attention");
  for (int i = 0; i < call.outs; ++i) {
    const Tensor& t = call.out[i];
    if (!t.present() || t.dtype == DType::i32) continue;
    pointwise({stream, nullptr, 0}, "look_for_non_finite", t.size(),
              Look{t.data, t.dtype, attention && i == 1, sparse && i == 1 ? call.output(2).i32() : nullptr, t.cols(), word, code});
  }
}

}  // namespace longer::cuda
