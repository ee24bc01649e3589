// What attention needs beyond vec_avx512.h.
#pragma once
#include "kernels/cpu/vec_avx512.h"

namespace {

constexpr int kMaxVectors = 4;

inline Vec zero_where_zero(Vec a, Vec b) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ), b);
}
inline float max_lanes(Vec x) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 a = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  a = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
inline void transpose_square(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  Vec a[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) a[i] = load(src + i * src_stride);
  transpose(a);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(dst + i * dst_stride, a[i]);
}

}  // namespace
