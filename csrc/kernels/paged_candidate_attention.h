// paged_candidate_attention: candidate_attention.h with the shared keys in pages of a pool. The candidates of request b see
// the keys of spans[b] = (first, count), counted through the page tables; forward only.
#pragma once
#include "kernels/key_pages.h"

namespace longer {

struct PagedCandidateAttentionArgs {
  Tensor q, own_k, own_v, o, lse, candidate_offsets;
  PagedKeys keys;
  int64_t requests, heads, width, head_width, rows_each;
  double scale;

  ShapeCheck check(const Call& call) const { return ShapeCheck("paged_candidate_attention", call); }
};

inline PagedCandidateAttentionArgs paged_candidate_attention_args(const Call& call) {
  PagedCandidateAttentionArgs a;
  const ShapeCheck check = a.check(call);
  check.counts(9, 2, 4);
  a.q = call.input(0);
  a.own_k = call.input(1);
  a.own_v = call.input(2);
  a.keys.k = call.input(3);
  a.keys.v = call.input(4);
  a.keys.k_tables = call.input(5);
  a.keys.v_tables = call.input(6);
  a.candidate_offsets = call.input(7);
  a.keys.spans = call.input(8);
  a.o = call.output(0);
  a.lse = call.output(1);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  a.rows_each = call.integer(2);
  a.keys.page_rows = call.integer(3);
  check.require(a.q.rank == 2, "q must be a matrix");
  a.width = a.q.dim[1];
  const int64_t rows = a.q.dim[0];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  check.require(a.rows_each > 0 && rows % a.rows_each == 0, "the rows of q are not a multiple of m");
  a.head_width = a.width / a.heads;
  check.matrix(a.own_k, rows, a.width, a.q.dtype, "own_k differs from q");
  check.matrix(a.own_v, rows, a.width, a.q.dtype, "own_v differs from q");
  check.matrix(a.o, rows, a.width, a.q.dtype, "o differs from q");
  if (a.lse.present())
    check.matrix(a.lse, rows, a.heads, a.q.dtype == DType::f64 ? DType::f64 : DType::f32, "lse must be [rows of q, heads]");
  check.indices(a.candidate_offsets, "candidate_offsets must be i32");
  check.require(a.candidate_offsets.dim[0] > 0, "candidate_offsets are empty");
  a.requests = a.candidate_offsets.dim[0] - 1;
  a.keys.check_shapes(check, a.width, a.heads, a.q.dtype, a.requests);
  return a;
}

}  // namespace longer
