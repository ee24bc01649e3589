// paged_attention: attention.h with keys that lie in pages of a pool. Segment b sees the keys of spans[b] = (first, count),
// counted through the page tables; forward only.
#pragma once
#include "kernels/key_pages.h"

namespace longer {

struct PagedAttentionArgs {
  Tensor q, o, lse, q_offsets, limits;
  PagedKeys keys;
  int64_t segments, heads, width, head_width;
  double scale;

  int64_t limit(int64_t segment, int64_t row) const {
    const int64_t wanted = limits.i32()[row];
    return wanted < 0 ? 0 : wanted < keys.count(segment) ? wanted : keys.count(segment);
  }
  ShapeCheck check(const Call& call) const { return ShapeCheck("paged_attention", call); }
};

inline PagedAttentionArgs paged_attention_args(const Call& call) {
  PagedAttentionArgs a;
  const ShapeCheck check = a.check(call);
  check.counts(8, 2, 3);
  a.q = call.input(0);
  a.keys.k = call.input(1);
  a.keys.v = call.input(2);
  a.keys.k_tables = call.input(3);
  a.keys.v_tables = call.input(4);
  a.q_offsets = call.input(5);
  a.keys.spans = call.input(6);
  a.limits = call.input(7);
  a.o = call.output(0);
  a.lse = call.output(1);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  a.keys.page_rows = call.integer(2);
  check.require(a.q.rank == 2, "q must be a matrix");
  a.width = a.q.dim[1];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  a.head_width = a.width / a.heads;
  check.indices(a.q_offsets, "q_offsets must be i32");
  check.indices(a.limits, "limits must be i32");
  check.require(a.q_offsets.dim[0] > 0, "q_offsets are empty");
  check.require(a.limits.dim[0] == a.q.dim[0], "limits must have a value for each row of q");
  a.segments = a.q_offsets.dim[0] - 1;
  check.matrix(a.o, a.q.dim[0], a.width, a.q.dtype, "o differs from q");
  if (a.lse.present())
    check.matrix(a.lse, a.q.dim[0], a.heads, a.q.dtype == DType::f64 ? DType::f64 : DType::f32, "lse must be [rows of q, heads]");
  a.keys.check_shapes(check, a.width, a.heads, a.q.dtype, a.segments);
  return a;
}

}  // namespace longer
