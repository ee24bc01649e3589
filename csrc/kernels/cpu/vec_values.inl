// Values in and out of vectors, on top of a vec_<isa>.h. `n` is how many of the lanes count, 1 to kLanes.

#include "kernels/cpu/values.h"

namespace {

using longer::cpu::Values;

inline Vec load_n(const float* p, int64_t n) { return n == kLanes ? load(p) : load_part(p, n); }
inline void store_n(float* p, Vec x, int64_t n) { n == kLanes ? store(p, x) : store_part(p, x, n); }

inline Vec get(Values v, int64_t at, int64_t n) {
  if (v.is_bf16) {
    const uint16_t* p = static_cast<const uint16_t*>(v.data) + at;
    return n == kLanes ? load_bf16(p) : load_bf16_part(p, n);
  }
  return load_n(static_cast<const float*>(v.data) + at, n);
}

inline void put(Values v, int64_t at, Vec x, int64_t n) {
  if (v.is_bf16) {
    uint16_t* p = static_cast<uint16_t*>(v.data) + at;
    return n == kLanes ? store_bf16(p, x) : store_bf16_part(p, x, n);
  }
  store_n(static_cast<float*>(v.data) + at, x, n);
}

// To the nearest bf16, even where there are two.
inline Vec rounded_bf16(Vec x) {
  uint16_t half[kLanes];
  store_bf16(half, x);
  return load_bf16(half);
}

inline int64_t lanes_left(int64_t at, int64_t end) { return end - at < kLanes ? end - at : kLanes; }

}  // namespace
