#include "kernels/paged_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/paged_candidate_attention.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

// The pools in double; those in int8 as copies.
class WidePools {
 public:
  WidePools(const PagedKeys& keys, int64_t width, int64_t heads) : keys_(keys), width_(width) {
    if (!keys.quantised()) return;
    k_ = widened(keys.k, heads);
    v_ = widened(keys.v, heads);
  }

  KeyRow key(int64_t row, int64_t column) const {
    const double* k = keys_.quantised() ? k_.data() : keys_.k.f64();
    const double* v = keys_.quantised() ? v_.data() : keys_.v.f64();
    return {k + keys_.k_pages().row(row) * width_ + column, v + keys_.v_pages().row(row) * width_ + column, nullptr, nullptr};
  }

 private:
  std::vector<double> widened(const Tensor& pool, int64_t heads) const {
    const QuantisedRows from(pool, width_, heads);
    std::vector<double> all(static_cast<size_t>(pool.dim[0] * width_));
    for (int64_t r = 0; r < pool.dim[0]; ++r)
      for (int64_t c = 0; c < width_; ++c) {
        const int64_t head = c / (width_ / heads);
        all[static_cast<size_t>(r * width_ + c)] = double{from.scale(r, head)} * from.numbers(r, head)[c % (width_ / heads)];
      }
    return all;
  }

  const PagedKeys& keys_;
  int64_t width_;
  std::vector<double> k_, v_;
};

}  // namespace

void paged_attention(const Call& call) {
  const PagedAttentionArgs a = paged_attention_args(call);
  a.keys.check_values(a.check(call), a.segments);
  const WidePools pools(a.keys, a.width, a.heads);
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.segments; ++b)
    for (int64_t r = a.q_offsets.i32()[b]; r < a.q_offsets.i32()[b + 1]; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        const int64_t column = g * a.head_width, at = r * a.width + column;
        keys.clear();
        for (int64_t j = 0; j < a.limit(b, r); ++j) keys.push_back(pools.key(a.keys.first(b) + j, column));
        const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
        if (a.lse.present()) a.lse.f64()[r * a.heads + g] = lse;
      }
}

void paged_candidate_attention(const Call& call) {
  const PagedCandidateAttentionArgs a = paged_candidate_attention_args(call);
  a.keys.check_values(a.check(call), a.requests);
  const int64_t m = a.rows_each;
  const WidePools pools(a.keys, a.width, a.heads);
  std::vector<KeyRow> keys;
  for (int64_t b = 0; b < a.requests; ++b)
    for (int64_t r = a.candidate_offsets.i32()[b] * m; r < a.candidate_offsets.i32()[b + 1] * m; ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        const int64_t column = g * a.head_width, at = r * a.width + column;
        keys.clear();
        for (int64_t j = 0; j < a.keys.count(b); ++j) keys.push_back(pools.key(a.keys.first(b) + j, column));
        for (int64_t t = r / m * m; t <= r; ++t)
          keys.push_back({a.own_k.f64() + t * a.width + column, a.own_v.f64() + t * a.width + column, nullptr, nullptr});
        const double lse = attention_row(a.q.f64() + at, keys, a.head_width, a.scale, a.o.f64() + at);
        if (a.lse.present()) a.lse.f64()[r * a.heads + g] = lse;
      }
}

}  // namespace longer::reference
