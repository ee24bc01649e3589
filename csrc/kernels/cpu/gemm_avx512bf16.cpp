// Words of a pair of bf16, multiplied and summed by one instruction.
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {

constexpr int64_t kRowTile = 12, kVectors = 2, kSmallVectors = 2, kGroup = 2;

inline Vec multiply_add(Vec a, Vec b, Vec sum) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// n bf16 in the low halves of lanes, rounded where the source is f32.
inline __m512i halves(const longer::cpu::GemmSource& s, int64_t offset, int64_t n) {
  if (s.from.is_bf16) return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), static_cast<const uint16_t*>(s.from.data) + offset));
  return _mm512_cvtepu16_epi32(narrow(load_part(static_cast<const float*>(s.from.data) + offset, n)));
}

inline void put_words(const longer::cpu::GemmSource& s, int64_t k, int64_t c, int64_t cols, float* to) {
  const bool half = 2 * k + 1 == s.inner;
  if (s.transposed) {
    for (int64_t i = 0; i < cols; ++i) {
      const __m512i both = halves(s, (c + i) * s.stride + 2 * k, half ? 1 : 2);
      to[i] = _mm_cvtss_f32(_mm_castsi128_ps(_mm256_castsi256_si128(_mm512_cvtepi32_epi16(both))));
    }
    return;
  }
  const int64_t low = 2 * k * s.stride + c;
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t n = lanes_left(i, cols);
    const __m512i even = halves(s, low + i, n);
    const __m512i odd = half ? _mm512_setzero_si512() : halves(s, low + s.stride + i, n);
    _mm512_mask_storeu_epi32(to + i, first(n), _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
  }
}

void stage(longer::cpu::Values from, int64_t from_stride, int64_t rows, int64_t inner, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint16_t* row = static_cast<const uint16_t*>(from.data) + r * from_stride;
    uint16_t* out = reinterpret_cast<uint16_t*>(to + r * to_stride);
    for (int64_t k = 0; k < inner; k += 32) {
      const __mmask32 mask = inner - k >= 32 ? ~__mmask32{0} : (__mmask32{1} << (inner - k)) - 1;
      const __mmask32 even = mask | (inner % 2 ? mask + 1 : 0);
      _mm512_mask_storeu_epi16(out + k, even, _mm512_maskz_loadu_epi16(mask, row + k));
    }
  }
}

}  // namespace

#include "kernels/cpu/gemm.inl"

namespace {
const GemmKernel kernel = {kGroup, kRowTile, kPanel, 0, pack, stage, multiply, nullptr, sum, add_rows};
}

namespace longer::cpu {
const GemmKernel& gemm_avx512bf16() { return kernel; }
}  // namespace longer::cpu
