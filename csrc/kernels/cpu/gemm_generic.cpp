#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_generic.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kRowTile = 4, kVectors = 2, kSmallRows = 4, kSmallVectors = 2, kSumRows = 4, kSumVectors = 2;
}

#include "kernels/cpu/gemm_f32.inl"
#include "kernels/cpu/gemm.inl"

namespace longer::cpu {
const GemmKernel& gemm_generic() { return kernel; }
}  // namespace longer::cpu
