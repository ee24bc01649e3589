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

inline const uint16_t* at(const longer::cpu::GemmSource& s, int64_t offset) {
  return static_cast<const uint16_t*>(s.from.data) + offset;
}

inline float pair(uint32_t low, uint32_t high) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(low | high << 16)))); }

inline void put_words(const longer::cpu::GemmSource& s, int64_t k, int64_t c, int64_t cols, float* to) {
  const bool half = 2 * k + 1 == s.inner;
  if (s.transposed) {
    for (int64_t i = 0; i < cols; ++i) {
      const uint16_t* from = at(s, (c + i) * s.stride + 2 * k);
      to[i] = pair(from[0], half ? 0 : from[1]);
    }
    return;
  }
  const uint16_t* low = at(s, 2 * k * s.stride + c);
  for (int64_t i = 0; i < cols; i += kLanes) {
    const __mmask16 mask = first(lanes_left(i, cols));
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, low + i));
    const __m512i odd = half ? _mm512_setzero_si512() : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, low + s.stride + i));
    _mm512_mask_storeu_epi32(to + i, mask, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
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
