#include <cstddef>

#include "kernels/cpu/attention_tiles.h"

namespace {

constexpr int kLanes = 4;
constexpr int kMaxVectors = 2;

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));

inline Vec load(const float* p) { Vec x; __builtin_memcpy(&x, p, 16); return x; }
inline Vec load_bf16(const uint16_t* p) {
  const Bits x = {p[0] << 16, p[1] << 16, p[2] << 16, p[3] << 16};
  return reinterpret_cast<Vec>(x);
}
inline Vec load_part(const float* p, int64_t n) { Vec x = {}; __builtin_memcpy(&x, p, static_cast<std::size_t>(n) * 4); return x; }
inline Vec load_bf16_part(const uint16_t* p, int64_t n) {
  uint16_t part[kLanes] = {};
  __builtin_memcpy(part, p, static_cast<std::size_t>(n) * 2);
  return load_bf16(part);
}
inline void store_part(float* p, Vec x, int64_t n) { __builtin_memcpy(p, &x, static_cast<std::size_t>(n) * 4); }
inline void store_bf16_part(uint16_t* p, Vec x, int64_t n) {  // to nearest even; NaN stays NaN
  for (int i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, reinterpret_cast<float*>(&x) + i, 4);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    p[i] = static_cast<uint16_t>((nan ? bits | 0x400000 : bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}
inline void store_bf16(uint16_t* p, Vec x) { store_bf16_part(p, x, kLanes); }
inline void store(float* p, Vec x) { __builtin_memcpy(p, &x, 16); }
inline Vec set(float x) { return Vec{x, x, x, x}; }
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec choose(Bits mask, Vec a, Vec b) {
  return reinterpret_cast<Vec>((mask & reinterpret_cast<Bits>(a)) | (~mask & reinterpret_cast<Bits>(b)));
}
// As the instructions do: the second operand where either is NaN.
inline Vec vmax(Vec a, Vec b) { return choose(a > b, a, b); }
inline Vec vmin(Vec a, Vec b) { return choose(a < b, a, b); }
inline Vec if_less(Vec a, Vec b, Vec yes, Vec no) { return choose(a < b, yes, no); }
inline Vec zero_where_zero(Vec a, Vec b) { return choose(a != 0, b, Vec{}); }
inline Vec round_even(Vec x) {
  const Vec magic = set(12582912.0f);
  return (x + magic) - magic;
}
inline Vec times_pow2(Vec x, Vec n) {
  Bits exponent;
  for (int i = 0; i < kLanes; ++i) exponent[i] = (static_cast<int32_t>(n[i] == n[i] ? n[i] : 0.0f) + 127) << 23;
  return x * reinterpret_cast<Vec>(exponent);
}
inline float max_lanes(Vec x) {
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
inline float sum_lanes(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline void transpose_square(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) dst[j * dst_stride + i] = src[i * src_stride + j];
}

}  // namespace

#include "kernels/cpu/attention_tiles.inl"

namespace longer::cpu {

const AttentionTiles& attention_tiles_generic() {
  static constexpr AttentionTiles tiles = tiles_of<Singles>();
  return tiles;
}

}  // namespace longer::cpu
