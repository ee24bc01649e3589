// attention_probabilities: how much each row of attention.h sees of each key that it may see, the mean over heads.
//
//   p_rj = 1/h sum_g exp(scale * q_r . k_j - lse_r) in head g       j counted from the first key of the row's request
//
// candidate_attention_probabilities: the same of candidate_attention.h, a row's own keys standing behind the shared ones.
// A row of p sums to 1 where there are keys; the columns behind them are 0. Forward only.
#pragma once
#include <algorithm>

#include "kernels/attention_check.h"

namespace longer {

struct AttentionProbabilitiesArgs {
  Tensor q, k, own_k, p, q_offsets, k_offsets, limits;  // own_k and limits are absent in one of the two
  int64_t requests, heads, width, head_width, rows_each;
  double scale;

  bool of_candidates() const { return own_k.present(); }
  int64_t rows() const { return p.dim[0]; }
  int64_t most() const { return p.dim[1]; }
  // First row of a request, and of the one behind the last.
  int64_t first_row(int64_t request) const { return q_offsets.i32()[request] * rows_each; }
  int64_t first_key(int64_t request) const { return k_offsets.i32()[request]; }
  // Keys of the request that the row sees.
  int64_t shared(int64_t request, int64_t row) const {
    const int64_t keys = k_offsets.i32()[request + 1] - k_offsets.i32()[request];
    return of_candidates() ? keys : std::clamp<int64_t>(limits.i32()[row], 0, keys);
  }
  // Keys of its own candidate; the first is row first_own(row) of own_k.
  int64_t own(int64_t row) const { return of_candidates() ? row % rows_each + 1 : 0; }
  int64_t first_own(int64_t row) const { return row - row % rows_each; }

  // Every row of the requests has as many columns as it sees keys.
  void check_values(const Call& call) const {
    const ShapeCheck check("attention_probabilities", call);
    for (int64_t b = 0; b < requests; ++b) {
      const int64_t keys = k_offsets.i32()[b + 1] - k_offsets.i32()[b];
      check.require(keys + (of_candidates() ? rows_each : 0) <= most(), "a request has more keys than p has columns");
    }
  }
};

inline AttentionProbabilitiesArgs attention_probabilities_args(const Call& call, bool of_candidates) {
  const ShapeCheck check(of_candidates ? "candidate_attention_probabilities" : "attention_probabilities", call);
  check.counts(5, 1, of_candidates ? 3 : 2);
  AttentionProbabilitiesArgs a;
  a.q = call.input(0);
  a.k = call.input(of_candidates ? 2 : 1);
  if (of_candidates) a.own_k = call.input(1);
  a.q_offsets = call.input(of_candidates ? 3 : 2);
  a.k_offsets = call.input(of_candidates ? 4 : 3);
  if (!of_candidates) a.limits = call.input(4);
  a.p = call.output(0);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  a.rows_each = of_candidates ? call.integer(2) : 1;
  check.require(a.q.rank == 2 && a.k.rank == 2 && a.p.rank == 2, "q, k and p must be matrices");
  a.width = a.q.dim[1];
  const int64_t rows = a.q.dim[0];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  check.require(a.rows_each > 0 && rows % a.rows_each == 0, "the rows of q are not a multiple of m");
  a.head_width = a.width / a.heads;
  check.matrix(a.k, a.k.dim[0], a.width, a.q.dtype, "k differs from q in width or type");
  if (of_candidates) check.matrix(a.own_k, rows, a.width, a.q.dtype, "own_k differs from q");
  check.matrix(a.p, rows, a.p.dim[1], a.q.dtype == DType::f64 ? DType::f64 : DType::f32, "p must be f32 with a row for each of q");
  check.indices(a.q_offsets, "the offsets must be i32");
  check.indices(a.k_offsets, "the offsets must be i32");
  check.require(a.q_offsets.dim[0] == a.k_offsets.dim[0] && a.q_offsets.dim[0] > 0, "the offsets differ in length");
  if (!of_candidates) {
    check.indices(a.limits, "limits must be i32");
    check.require(a.limits.dim[0] == rows, "limits must have a value for each row of q");
  }
  a.requests = a.q_offsets.dim[0] - 1;
  return a;
}

}  // namespace longer
