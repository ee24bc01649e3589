// candidate_attention: the m rows of every candidate see all keys of their request, then the candidate's own rows
// up to themselves. Candidates never see each other.
//
//   visible keys of row t of candidate c of request b: k[k_offsets[b] .. k_offsets[b+1]), own_k[c*m .. c*m+t]
//   otherwise the mathematics of attention.h; dk and dv of the shared keys sum over the candidates in ascending order
#pragma once
#include "kernels/attention_check.h"

namespace longer {

struct CandidateAttentionArgs {
  Tensor q, own_k, own_v, k, v, o, lse, d_o;  // o and lse are outputs of the forward op
  Tensor candidate_offsets, k_offsets;
  Tensor dq, down_k, down_v, dk, dv;          // backward only
  int64_t requests, heads, width, head_width, rows_each;
  double scale;
};

inline CandidateAttentionArgs candidate_attention_args(const Call& call, bool backward) {
  const ShapeCheck check(backward ? "candidate_attention_dx" : "candidate_attention", call);
  check.counts(backward ? 10 : 7, backward ? 5 : 2, 3);
  CandidateAttentionArgs a;
  a.q = call.input(0);
  a.own_k = call.input(1);
  a.own_v = call.input(2);
  a.k = call.input(3);
  a.v = call.input(4);
  a.o = backward ? call.input(5) : call.output(0);
  a.lse = backward ? call.input(6) : call.output(1);
  a.d_o = backward ? call.input(7) : Tensor();
  a.candidate_offsets = call.input(backward ? 8 : 5);
  a.k_offsets = call.input(backward ? 9 : 6);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  a.rows_each = call.integer(2);
  check.require(a.q.rank == 2 && a.k.rank == 2, "q and k must be matrices");
  a.width = a.q.dim[1];
  const int64_t rows = a.q.dim[0], keys = a.k.dim[0];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  check.require(a.rows_each > 0 && rows % a.rows_each == 0, "the rows of q are not a multiple of m");
  a.head_width = a.width / a.heads;
  const DType dtype = a.q.dtype;
  check.matrix(a.own_k, rows, a.width, dtype, "own_k differs from q");
  check.matrix(a.own_v, rows, a.width, dtype, "own_v differs from q");
  check.matrix(a.k, keys, a.width, dtype, "k differs from q in width or type");
  check.matrix(a.v, keys, a.width, dtype, "v differs from k");
  check.matrix(a.o, rows, a.width, dtype, "o differs from q");
  if (a.lse.present() || backward)
    check.matrix(a.lse, rows, a.heads, dtype == DType::f64 ? DType::f64 : DType::f32, "lse must be [rows of q, heads]");
  check.indices(a.candidate_offsets, "candidate_offsets must be i32");
  check.indices(a.k_offsets, "k_offsets must be i32");
  check.require(a.candidate_offsets.dim[0] == a.k_offsets.dim[0] && a.k_offsets.dim[0] > 0, "the offsets differ in length");
  a.requests = a.k_offsets.dim[0] - 1;
  if (backward) {
    check.matrix(a.d_o, rows, a.width, dtype, "do differs from q");
    a.dq = call.output(0);
    a.down_k = call.output(1);
    a.down_v = call.output(2);
    a.dk = call.output(3);
    a.dv = call.output(4);
    check.matrix(a.dq, rows, a.width, dtype, "dq differs from q");
    check.matrix(a.down_k, rows, a.width, dtype, "down_k differs from own_k");
    check.matrix(a.down_v, rows, a.width, dtype, "down_v differs from own_v");
    check.matrix(a.dk, keys, a.width, dtype, "dk differs from k");
    check.matrix(a.dv, keys, a.width, dtype, "dv differs from v");
  }
  return a;
}

}  // namespace longer
