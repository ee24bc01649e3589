#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kRowTile = 12, kVectors = 2, kSmallRows = 6, kSmallVectors = 4;
}

#include "kernels/cpu/gemm_f32.inl"

namespace longer::cpu {
const GemmKernel& gemm_avx512() { return kernel; }
}  // namespace longer::cpu
