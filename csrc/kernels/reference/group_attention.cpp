#include "kernels/group_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

template <class Row>
void each_row(const GroupAttentionArgs& a, bool backward, Row row) {
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.requests; ++b) {
    const int64_t end = a.event_offsets.i32()[b + 1];
    int64_t first = a.event_offsets.i32()[b], size = oldest_group(end - first, a.group);
    for (; first < end; first += size, size = a.group)
      for (int64_t g = 0; g < a.heads; ++g) {
        keys.clear();
        for (int64_t j = first; j < first + size; ++j) {
          const int64_t at = j * a.width + g * a.head_width;
          keys.push_back({a.k.f64() + at, a.v.f64() + at, backward ? a.dk.f64() + at : nullptr, backward ? a.dv.f64() + at : nullptr});
        }
        for (int64_t r = first; r < first + size; ++r) row(r * a.width + g * a.head_width, keys);
      }
  }
}

}  // namespace

void group_attention(const Call& call) {
  const GroupAttentionArgs a = group_attention_args(call, false);
  each_row(a, false, [&a](int64_t at, const std::vector<KeyRow>& keys) {
    attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
  });
}

void group_attention_dx(const Call& call) {
  const GroupAttentionArgs a = group_attention_args(call, true);
  std::fill(a.dk.f64(), a.dk.f64() + a.dk.size(), 0.0);
  std::fill(a.dv.f64(), a.dv.f64() + a.dv.size(), 0.0);
  std::vector<double> o(a.head_width);
  each_row(a, true, [&](int64_t at, const std::vector<KeyRow>& keys) {
    const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, o.data());
    attention_row_dx(a.q.f64() + at, keys, a.head_width, a.scale, o.data(), lse, a.d_o.f64() + at, a.dq.f64() + at);
  });
}

}  // namespace longer::reference
