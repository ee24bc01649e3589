#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kRowTile = 6, kVectors = 2, kSmallRows = 3, kSmallVectors = 4, kSumRows = 4, kSumVectors = 3;
}

#include "kernels/cpu/gemm_f32.inl"
#include "kernels/cpu/gemm.inl"

namespace longer::cpu {
const GemmKernel& gemm_avx2() { return kernel; }
}  // namespace longer::cpu
