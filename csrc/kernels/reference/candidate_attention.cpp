#include "kernels/candidate_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

template <class Row>
void each_row(const CandidateAttentionArgs& a, bool backward, Row row) {
  std::vector<KeyRow> keys;
  const auto push = [&](const Tensor& k, const Tensor& v, const Tensor& dk, const Tensor& dv, int64_t at) {
    keys.push_back({k.f64() + at, v.f64() + at, backward ? dk.f64() + at : nullptr, backward ? dv.f64() + at : nullptr});
  };
  const int64_t m = a.rows_each;
  for (int64_t b = 0; b < a.requests; ++b)
    for (int64_t r = a.candidate_offsets.i32()[b] * m; r < a.candidate_offsets.i32()[b + 1] * m; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        keys.clear();
        const int64_t column = g * a.head_width;
        for (int64_t j = a.k_offsets.i32()[b]; j < a.k_offsets.i32()[b + 1]; ++j)
          push(a.k, a.v, a.dk, a.dv, j * a.width + column);
        for (int64_t t = r / m * m; t <= r; ++t) push(a.own_k, a.own_v, a.down_k, a.down_v, t * a.width + column);
        row(r * a.width + column, r * a.heads + g, keys);
      }
}

}  // namespace

void candidate_attention(const Call& call) {
  const CandidateAttentionArgs a = candidate_attention_args(call, false);
  each_row(a, false, [&a](int64_t at, int64_t stat, const std::vector<KeyRow>& keys) {
    const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
    if (a.lse.present()) a.lse.f64()[stat] = lse;
  });
}

void candidate_attention_dx(const Call& call) {
  const CandidateAttentionArgs a = candidate_attention_args(call, true);
  for (const Tensor* t : {&a.down_k, &a.down_v, &a.dk, &a.dv}) std::fill(t->f64(), t->f64() + t->size(), 0.0);
  each_row(a, true, [&a](int64_t at, int64_t stat, const std::vector<KeyRow>& keys) {
    attention_row_dx(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at, a.lse.f64()[stat], a.d_o.f64() + at,
                     a.dq.f64() + at);
  });
}

}  // namespace longer::reference
