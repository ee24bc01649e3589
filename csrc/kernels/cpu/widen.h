// One number of a tensor, f32 or the word of a bf16, as a float.
#pragma once
#include <cstdint>
#include <cstring>

namespace longer::cpu {

inline float widen(float x) { return x; }
inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

}  // namespace longer::cpu
