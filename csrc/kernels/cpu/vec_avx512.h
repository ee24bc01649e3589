// Vectors of 16 floats. Only for files compiled with AVX-512 flags; everything has internal linkage.
#pragma once
// gcc 12 takes the "undefined" operands in its own intrinsics for mistakes (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;
using Vec = __m512;

inline __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline void store_part(float* p, Vec x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }

inline Vec widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
#if defined(__AVX512BF16__)
inline __m256i narrow(Vec x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
#else
inline __m256i narrow(Vec x) {  // to nearest even; NaN stays NaN
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}
#endif
inline Vec load_bf16(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load_bf16_part(const uint16_t* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
inline void store_bf16(uint16_t* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x)); }
inline void store_bf16_part(uint16_t* p, Vec x, int64_t n) { _mm256_mask_storeu_epi16(p, first(n), narrow(x)); }

inline Vec set(float x) { return _mm512_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec divide(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b where either is NaN
inline Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }  // b where either is NaN
inline Vec root(Vec a) { return _mm512_sqrt_ps(a); }
inline Vec vabs(Vec a) { return _mm512_abs_ps(a); }
inline Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline Vec round_even(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec times_pow2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }  // n whole, in [-126, 127]
inline void transpose(Vec (&r)[kLanes]) {
  Vec t[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 2) t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  const auto pairs = [](Vec a, Vec b, bool high) {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
  };
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    r[i] = pairs(t[i], t[i + 2], false), r[i + 1] = pairs(t[i], t[i + 2], true);
    r[i + 2] = pairs(t[i + 1], t[i + 3], false), r[i + 3] = pairs(t[i + 1], t[i + 3], true);
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {  // blocks of four lanes
    const Vec even0 = _mm512_shuffle_f32x4(r[q], r[4 + q], 0x88), even1 = _mm512_shuffle_f32x4(r[8 + q], r[12 + q], 0x88);
    const Vec odd0 = _mm512_shuffle_f32x4(r[q], r[4 + q], 0xdd), odd1 = _mm512_shuffle_f32x4(r[8 + q], r[12 + q], 0xdd);
    r[q] = _mm512_shuffle_f32x4(even0, even1, 0x88), r[8 + q] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    r[4 + q] = _mm512_shuffle_f32x4(odd0, odd1, 0x88), r[12 + q] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}
inline float sum_lanes(Vec x) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 a = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  a = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

}  // namespace
