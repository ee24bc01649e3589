#include "kernels/paged_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/paged_candidate_attention.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

KeyRow paged_key(const PagedKeys& keys, int64_t row, int64_t width, int64_t column) {
  return {keys.k.f64() + keys.k_pages().row(row) * width + column, keys.v.f64() + keys.v_pages().row(row) * width + column, nullptr, nullptr};
}

}  // namespace

void paged_attention(const Call& call) {
  const PagedAttentionArgs a = paged_attention_args(call);
  a.keys.check_values(a.check(call), a.segments);
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.segments; ++b)
    for (int64_t r = a.q_offsets.i32()[b]; r < a.q_offsets.i32()[b + 1]; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        const int64_t column = g * a.head_width, at = r * a.width + column;
        keys.clear();
        for (int64_t j = 0; j < a.limit(b, r); ++j) keys.push_back(paged_key(a.keys, a.keys.first(b) + j, a.width, column));
        const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
        if (a.lse.present()) a.lse.f64()[r * a.heads + g] = lse;
      }
}

void paged_candidate_attention(const Call& call) {
  const PagedCandidateAttentionArgs a = paged_candidate_attention_args(call);
  a.keys.check_values(a.check(call), a.requests);
  const int64_t m = a.rows_each;
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.requests; ++b)
    for (int64_t r = a.candidate_offsets.i32()[b] * m; r < a.candidate_offsets.i32()[b + 1] * m; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        const int64_t column = g * a.head_width, at = r * a.width + column;
        keys.clear();
        for (int64_t j = 0; j < a.keys.count(b); ++j) keys.push_back(paged_key(a.keys, a.keys.first(b) + j, a.width, column));
        for (int64_t t = r / m * m; t <= r; ++t)
          keys.push_back({a.own_k.f64() + t * a.width + column, a.own_v.f64() + t * a.width + column, nullptr, nullptr});
        const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
        if (a.lse.present()) a.lse.f64()[r * a.heads + g] = lse;
      }
}

}  // namespace longer::reference
