// Words of a pair of bf16, multiplied and summed by one instruction.
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/attention_vec_avx512.h"

#include "kernels/cpu/attention_tiles.inl"

namespace {

// 16 words of a[i] below and b[i] above.
inline Vec paired(__m256i a, __m256i b) {
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16)));
}

inline __m256i halves(const uint16_t* p, int64_t n) { return _mm256_maskz_loadu_epi16(first(n < kLanes ? n : kLanes), p); }

struct Pairs {
  static constexpr int64_t kGroup = 2;
  static Vec multiply_add(Vec a, Vec b, Vec sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Vec unless_zero(Vec a, Vec b) {
    const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi16(0x7fff));
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi16(_mm512_test_epi16_mask(magnitude, magnitude), _mm512_castps_si512(b)));
  }
  static void put(float* row, int64_t at, Vec x) { store_bf16(reinterpret_cast<uint16_t*>(row) + at, x); }
  static Vec join(const Vec (&x)[2]) { return paired(narrow(x[0]), narrow(x[1])); }

  static void pack_words(const void* src, bool, int64_t stride, int64_t rows, int64_t width, float* dst) {
    const int64_t words = pad_to(words_of<Pairs>(width), kPad);
    for (int64_t r = 0; r < rows; ++r, dst += words) {
      const uint16_t* from = static_cast<const uint16_t*>(src) + r * stride;
      for (int64_t i = 0; i < 2 * words; i += 2 * kLanes) {
        const int64_t n = width - i;
        const __mmask32 mask = n >= 2 * kLanes ? ~__mmask32{0} : (__mmask32{1} << (n < 0 ? 0 : n)) - 1;
        store(dst + i / 2, _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from + i)));
      }
    }
    clear(dst, (pad_to(rows, kPad) - rows) * words);
  }

  static void pack_summed(const void* src, bool, int64_t stride, int64_t rows, int64_t width, float* dst) {
    const int64_t cols = pad_to(width, kPad);
    for (int64_t r = 0; r < rows; r += 2, dst += cols) {
      const uint16_t* low = static_cast<const uint16_t*>(src) + r * stride;
      for (int64_t i = 0; i < cols; i += kLanes) {
        const int64_t n = width - i;
        store(dst + i, paired(halves(low + i, n), halves(low + stride + i, r + 1 < rows ? n : 0)));
      }
    }
  }
};

}  // namespace

namespace longer::cpu {

const AttentionTiles& attention_tiles_avx512bf16() {
  static constexpr AttentionTiles tiles = tiles_of<Pairs>();
  return tiles;
}

}  // namespace longer::cpu
