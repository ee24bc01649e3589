#include "kernels/write_quantised_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/split.h"
#include "kernels/cpu/widen.h"
#include "kernels/rows_kernels.h"

namespace longer::cpu {

namespace {

constexpr int kLanes = 16;
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a sum with it has no fraction, rounded to the nearest even

// Bits of the largest magnitude; they order as magnitudes do, with what is not finite above all.
template <class T>
uint32_t largest(const T* x, int64_t n) {
  uint32_t part[kLanes] = {};
  const auto size = [](float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, 4);
    return bits & 0x7fffffffu;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) part[l] = std::max(part[l], size(widen(x[i + l])));
  for (; i < n; ++i) part[0] = std::max(part[0], size(widen(x[i])));
  return *std::max_element(part, part + kLanes);
}

template <class T>
void rows(const WriteQuantisedRowsArgs& a, int64_t begin, int64_t end) {
  const int64_t head_width = a.width / a.heads;
  const QuantisedRows to = a.to();
  for (int64_t i = begin; i < end; ++i)
    for (int64_t g = 0; g < a.heads; ++g) {
      const T* x = static_cast<const T*>(a.x.data) + i * a.width + g * head_width;
      const int64_t at = a.index.i32()[i];
      int8_t* q = to.numbers(at, g);
      const uint32_t bits = largest(x, head_width);
      float most;
      std::memcpy(&most, &bits, 4);
      const bool finite = std::isfinite(most);
      to.set_scale(at, g, !finite ? std::numeric_limits<float>::quiet_NaN() : most < kLeastQuantised ? 0.0f : most / 127);
      if (!finite || most < kLeastQuantised) {
        std::memset(q, 0, static_cast<size_t>(head_width));
        continue;
      }
      const float factor = 127 / most;
      for (int64_t c = 0; c < head_width; ++c) {
        const float scaled = widen(x[c]) * factor;
        q[c] = static_cast<int8_t>(static_cast<int32_t>((scaled + kRound) - kRound));
      }
    }
}

}  // namespace

void write_quantised_rows(const Call& call) {
  const WriteQuantisedRowsArgs a = write_quantised_rows_args(call);
  check_places(a);
  split(*call.pool, a.rows, rows_a_task(a.width), [&](int64_t begin, int64_t end) { a.x.dtype == DType::bf16 ? rows<uint16_t>(a, begin, end) : rows<float>(a, begin, end); });
}

}  // namespace longer::cpu
