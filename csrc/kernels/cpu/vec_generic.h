// Vectors of 4 floats in plain C++. Everything has internal linkage, as in the other vec_*.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 4;
struct Vec {
  float lane[kLanes];
};

template <class F>
inline Vec each(F&& f) {
  Vec y;
  for (int i = 0; i < kLanes; ++i) y.lane[i] = f(i);
  return y;
}

inline Vec load(const float* p) { return each([&](int i) { return p[i]; }); }
inline Vec load_part(const float* p, int64_t n) { return each([&](int i) { return i < n ? p[i] : 0.0f; }); }
inline void store_part(float* p, Vec x, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = x.lane[i];
}
inline void store(float* p, Vec x) { store_part(p, x, kLanes); }

inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}
inline uint16_t narrow(float x) {  // to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<uint16_t>((bits | 0x400000) >> 16);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline Vec load_bf16_part(const uint16_t* p, int64_t n) { return each([&](int i) { return i < n ? widen(p[i]) : 0.0f; }); }
inline Vec load_bf16(const uint16_t* p) { return load_bf16_part(p, kLanes); }
inline void store_bf16_part(uint16_t* p, Vec x, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = narrow(x.lane[i]);
}
inline void store_bf16(uint16_t* p, Vec x) { store_bf16_part(p, x, kLanes); }

inline Vec set(float x) { return each([&](int) { return x; }); }
inline Vec add(Vec a, Vec b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
inline Vec sub(Vec a, Vec b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
inline Vec mul(Vec a, Vec b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
inline Vec divide(Vec a, Vec b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
inline Vec fma(Vec a, Vec b, Vec c) { return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); }); }
inline Vec vmax(Vec a, Vec b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
inline Vec vmin(Vec a, Vec b) { return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; }); }
inline Vec root(Vec a) { return each([&](int i) { return std::sqrt(a.lane[i]); }); }
inline Vec vabs(Vec a) { return each([&](int i) { return std::fabs(a.lane[i]); }); }
inline Vec if_less(Vec a, Vec b, Vec yes, Vec no) {
  return each([&](int i) { return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]; });
}
inline Vec round_even(Vec x) { return each([&](int i) { return std::nearbyint(x.lane[i]); }); }
inline Vec times_pow2(Vec x, Vec n) {  // n whole, in [-126, 127]
  return each([&](int i) { return n.lane[i] == n.lane[i] ? std::ldexp(x.lane[i], static_cast<int>(n.lane[i])) : n.lane[i]; });
}
inline void transpose(Vec (&r)[kLanes]) {
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < i; ++j) {
      const float low = r[i].lane[j];
      r[i].lane[j] = r[j].lane[i];
      r[j].lane[i] = low;
    }
}
inline float sum_lanes(Vec x) { return (x.lane[0] + x.lane[2]) + (x.lane[1] + x.lane[3]); }

}  // namespace
