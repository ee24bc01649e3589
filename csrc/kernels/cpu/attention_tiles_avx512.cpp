#include <immintrin.h>

#include "kernels/cpu/attention_tiles.h"

namespace {

constexpr int kLanes = 16;
constexpr int kMaxVectors = 4;

using Vec = __m512;

inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec set(float x) { return _mm512_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline Vec zero_where_zero(Vec a, Vec b) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ), b);
}
inline Vec round_even(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec times_pow2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
inline __m256 upper_half(Vec x) { return _mm512_extractf32x8_ps(x, 1); }
inline float max_lanes(Vec x) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(x), upper_half(x));
  __m128 a = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  a = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
inline float sum_lanes(Vec x) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), upper_half(x));
  __m128 a = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  a = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
inline void transpose_square(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  Vec a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = load(src + i * src_stride);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // a[i + c]: column 4 * lane quarter + c of rows i .. i + 3
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
  for (int c = 0; c < 4; ++c) {
    const Vec even_low = _mm512_shuffle_f32x4(a[c], a[c + 4], 0x88), odd_low = _mm512_shuffle_f32x4(a[c], a[c + 4], 0xdd);
    const Vec even_high = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0x88);
    const Vec odd_high = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0xdd);
    store(dst + c * dst_stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    store(dst + (c + 4) * dst_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    store(dst + (c + 8) * dst_stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    store(dst + (c + 12) * dst_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}

}  // namespace

#include "kernels/cpu/attention_tiles.inl"

namespace longer::cpu {
const AttentionTiles& attention_tiles_avx512() { return tiles; }
}  // namespace longer::cpu
