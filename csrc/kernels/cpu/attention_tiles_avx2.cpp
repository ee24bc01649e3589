#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/vec_avx2.h"

namespace {

constexpr int kMaxVectors = 2;

inline Vec zero_where_zero(Vec a, Vec b) { return _mm256_and_ps(b, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ)); }
inline float max_lanes(Vec x) {
  __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  a = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
inline void transpose_square(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  Vec a[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) a[i] = load(src + i * src_stride);
  transpose(a);
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) store(dst + i * dst_stride, a[i]);
}

}  // namespace

#include "kernels/cpu/attention_tiles.inl"

namespace longer::cpu {

const AttentionTiles& attention_tiles_avx2() {
  static constexpr AttentionTiles tiles = tiles_of<Singles>();
  return tiles;
}

}  // namespace longer::cpu
