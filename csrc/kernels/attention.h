// attention: softmax(scale * q k^T) v over the first limits[r] keys of the row's request, head by head.
//
//   s_rj = scale * q_r . k_j                    j in k_offsets[b] + [0, limits[r])
//   lse_r = log sum_j exp(s_rj)                 -inf where limits[r] is 0
//   o_r = sum_j exp(s_rj - lse_r) v_j           0 where limits[r] is 0
//
// attention_dx, with p_rj = exp(s_rj - lse_r) and delta_r = o_r . do_r:
//   ds_rj = p_rj (do_r . v_j - delta_r)
//   dq_r = scale sum_j ds_rj k_j,  dk_j = scale sum_r ds_rj q_r,  dv_j = sum_r p_rj do_r
#pragma once
#include "kernels/attention_check.h"

namespace longer {

struct AttentionArgs {
  Tensor q, k, v, o, lse, d_o;   // o and lse are outputs of the forward op
  Tensor q_offsets, k_offsets, limits;
  Tensor dq, dk, dv;             // backward only
  int64_t requests, heads, width, head_width;
  double scale;

  int64_t limit(int64_t request, int64_t row) const {
    const int32_t* ends = k_offsets.i32() + request;
    const int64_t keys = ends[1] - ends[0], wanted = limits.i32()[row];
    return wanted < 0 ? 0 : wanted < keys ? wanted : keys;
  }
};

inline AttentionArgs attention_args(const Call& call, bool backward) {
  const ShapeCheck check(backward ? "attention_dx" : "attention", call);
  check.counts(backward ? 9 : 6, backward ? 3 : 2, 2);
  AttentionArgs a;
  a.q = call.input(0);
  a.k = call.input(1);
  a.v = call.input(2);
  a.o = backward ? call.input(3) : call.output(0);
  a.lse = backward ? call.input(4) : call.output(1);
  a.d_o = backward ? call.input(5) : Tensor();
  const int offsets = backward ? 6 : 3;
  a.q_offsets = call.input(offsets);
  a.k_offsets = call.input(offsets + 1);
  a.limits = call.input(offsets + 2);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  check.require(a.q.rank == 2 && a.k.rank == 2, "q and k must be matrices");
  a.width = a.q.dim[1];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  a.head_width = a.width / a.heads;
  const int64_t rows = a.q.dim[0], keys = a.k.dim[0];
  const DType dtype = a.q.dtype;
  check.matrix(a.k, keys, a.width, dtype, "k differs from q in width or type");
  check.matrix(a.v, keys, a.width, dtype, "v differs from k");
  check.matrix(a.o, rows, a.width, dtype, "o differs from q");
  if (a.lse.present() || backward)
    check.matrix(a.lse, rows, a.heads, dtype == DType::f64 ? DType::f64 : DType::f32, "lse must be [rows of q, heads]");
  check.indices(a.q_offsets, "q_offsets must be i32");
  check.indices(a.k_offsets, "k_offsets must be i32");
  check.indices(a.limits, "limits must be i32");
  check.require(a.q_offsets.dim[0] == a.k_offsets.dim[0] && a.q_offsets.dim[0] > 0, "the offsets differ in length");
  check.require(a.limits.dim[0] == rows, "limits must have a value for each row of q");
  a.requests = a.q_offsets.dim[0] - 1;
  if (backward) {
    check.matrix(a.d_o, rows, a.width, dtype, "do differs from q");
    a.dq = call.output(0);
    a.dk = call.output(1);
    a.dv = call.output(2);
    check.matrix(a.dq, rows, a.width, dtype, "dq differs from q");
    check.matrix(a.dk, keys, a.width, dtype, "dk differs from k");
    check.matrix(a.dv, keys, a.width, dtype, "dv differs from v");
  }
  return a;
}

}  // namespace longer
