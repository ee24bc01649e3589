#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kRowTile = 14, kVectors = 2, kSmallRows = 6, kSmallVectors = 4, kSumRows = 8, kSumVectors = 3;
}

#include "kernels/cpu/gemm_f32.inl"
#include "kernels/cpu/gemm.inl"

namespace longer::cpu {
const GemmKernel& gemm_avx512() { return kernel; }
}  // namespace longer::cpu
