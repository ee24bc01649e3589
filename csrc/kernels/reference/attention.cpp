#include "kernels/attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

template <class Row>
void each_row(const AttentionArgs& a, bool backward, Row row) {
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.requests; ++b)
    for (int64_t r = a.q_offsets.i32()[b]; r < a.q_offsets.i32()[b + 1]; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        keys.clear();
        const int64_t column = g * a.head_width, first = a.k_offsets.i32()[b];
        for (int64_t j = first; j < first + a.limit(b, r); ++j) {
          const int64_t at = j * a.width + column;
          keys.push_back({a.k.f64() + at, a.v.f64() + at, backward ? a.dk.f64() + at : nullptr, backward ? a.dv.f64() + at : nullptr});
        }
        row(r * a.width + column, r * a.heads + g, keys);
      }
}

}  // namespace

void attention(const Call& call) {
  const AttentionArgs a = attention_args(call, false);
  each_row(a, false, [&a](int64_t at, int64_t stat, const std::vector<KeyRow>& keys) {
    const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
    if (a.lse.present()) a.lse.f64()[stat] = lse;
  });
}

void attention_dx(const Call& call) {
  const AttentionArgs a = attention_args(call, true);
  std::fill(a.dk.f64(), a.dk.f64() + a.dk.size(), 0.0);
  std::fill(a.dv.f64(), a.dv.f64() + a.dv.size(), 0.0);
  each_row(a, true, [&a](int64_t at, int64_t stat, const std::vector<KeyRow>& keys) {
    attention_row_dx(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at, a.lse.f64()[stat], a.d_o.f64() + at,
                     a.dq.f64() + at);
  });
}

}  // namespace longer::reference
