// Rows of keys or values in int8: `width` numbers of `heads` heads as 32-bit words, first a scale (the bits of an f32) for each head, then the numbers, 4 a word.
// A number of a head is its scale * its int8.
//
//   scale = max |x| / 127 over the head's numbers, in f32      q = x * (127 / max |x|), rounded to the nearest, ties to even
//   below 1e-30 all of a head are 0; one that is no finite number makes all of its head NaN (a scale of NaN)
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/host_device.h"
#include "runtime/tensor.h"

namespace longer {

LONGER_BOTH inline int64_t quantised_words(int64_t width, int64_t heads) { return heads + width / 4; }

struct QuantisedRows {
  int32_t* words = nullptr;
  int64_t width = 0, heads = 0;

  QuantisedRows(const Tensor& t, int64_t width_, int64_t heads_) : words(t.i32()), width(width_), heads(heads_) {}

  LONGER_BOTH int32_t* row(int64_t r) const { return words + r * quantised_words(width, heads); }
  LONGER_BOTH int8_t* numbers(int64_t r, int64_t head) const { return reinterpret_cast<int8_t*>(row(r) + heads) + head * (width / heads); }
  LONGER_BOTH float scale(int64_t r, int64_t head) const {
    float s;
    std::memcpy(&s, row(r) + head, 4);
    return s;
  }
  LONGER_BOTH void set_scale(int64_t r, int64_t head, float s) const { std::memcpy(row(r) + head, &s, 4); }
};

constexpr float kLeastQuantised = 1e-30f;

}  // namespace longer
