// Words of a pair of bf16, for gemm_avx512bf16.cpp and gemm_amx.cpp.

namespace {

constexpr int64_t kGroup = 2;

inline Vec multiply_add(Vec a, Vec b, Vec sum) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

inline Vec add_words(Vec sum, Vec words) {
  const __m512i bits = _mm512_castps_si512(words);
  const Vec low = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  return add(add(sum, low), _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))));
}

// n bf16 in the low halves of lanes.
inline __m512i halves(Values from, int64_t at, int64_t n) {
  if (!from.is_bf16) return _mm512_cvtepu16_epi32(narrow(load_n(static_cast<const float*>(from.data) + at, n)));
  const uint16_t* p = static_cast<const uint16_t*>(from.data) + at;
  return _mm512_cvtepu16_epi32(n == kLanes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)) : _mm256_maskz_loadu_epi16(first(n), p));
}

inline Vec words_across(Values from, bool, int64_t at, int64_t stride, bool both, int64_t n) {
  const __m512i low = halves(from, at, n);
  return _mm512_castsi512_ps(both ? _mm512_or_si512(low, _mm512_slli_epi32(halves(from, at + stride, n), 16)) : low);
}

inline Vec words_along(Values from, bool, int64_t at, int64_t n) {
  if (from.is_bf16) {
    const __mmask32 mask = n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(from.data) + at));
  }
  const float* p = static_cast<const float*>(from.data) + at;
  const Vec low = load_n(p, n < kLanes ? n : kLanes), high = n > kLanes ? load_n(p + kLanes, n - kLanes) : set(0.0f);
  return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(high, low));
}

}  // namespace
