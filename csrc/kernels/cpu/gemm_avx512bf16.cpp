// Words of a pair of bf16, multiplied and summed by one instruction.
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kRowTile = 14, kVectors = 2, kSmallRows = 6, kSmallVectors = 4, kSumRows = 8, kSumVectors = 3;
}

#include "kernels/cpu/gemm_pairs.inl"
#include "kernels/cpu/gemm.inl"

namespace longer::cpu {
const GemmKernel& gemm_avx512bf16() { return kernel; }
}  // namespace longer::cpu
