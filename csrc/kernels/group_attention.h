// group_attention: every event attends to the events of its group, itself included, in both directions.
//
// Groups of K adjacent events are aligned at the newest (last) event of the request; the oldest group holds the
// n mod K events that are left, if any. Mathematics as in attention.h; the backward op computes the softmax again.
#pragma once
#include "kernels/attention_check.h"

namespace longer {

struct GroupAttentionArgs {
  Tensor q, k, v, o, d_o, event_offsets;
  Tensor dq, dk, dv;  // backward only
  int64_t requests, heads, width, head_width, group;
  double scale;
};

inline GroupAttentionArgs group_attention_args(const Call& call, bool backward) {
  const ShapeCheck check(backward ? "group_attention_dx" : "group_attention", call);
  check.counts(backward ? 5 : 4, backward ? 3 : 1, 3);
  GroupAttentionArgs a;
  a.q = call.input(0);
  a.k = call.input(1);
  a.v = call.input(2);
  a.heads = call.integer(0);
  a.scale = call.number(1);
  a.group = call.integer(2);
  check.require(a.q.rank == 2, "q must be a matrix");
  a.width = a.q.dim[1];
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  check.require(a.group > 0, "K must be positive");
  a.head_width = a.width / a.heads;
  const int64_t rows = a.q.dim[0];
  const DType dtype = a.q.dtype;
  check.matrix(a.k, rows, a.width, dtype, "k differs from q");
  check.matrix(a.v, rows, a.width, dtype, "v differs from q");
  a.event_offsets = call.input(backward ? 4 : 3);
  check.indices(a.event_offsets, "event_offsets must be i32");
  check.require(a.event_offsets.dim[0] > 0, "event_offsets is empty");
  a.requests = a.event_offsets.dim[0] - 1;
  if (backward) {
    a.d_o = call.input(3);
    a.dq = call.output(0);
    a.dk = call.output(1);
    a.dv = call.output(2);
    check.matrix(a.d_o, rows, a.width, dtype, "do differs from q");
    check.matrix(a.dq, rows, a.width, dtype, "dq differs from q");
    check.matrix(a.dk, rows, a.width, dtype, "dk differs from k");
    check.matrix(a.dv, rows, a.width, dtype, "dv differs from v");
  } else {
    a.o = call.output(0);
    check.matrix(a.o, rows, a.width, dtype, "o differs from q");
  }
  return a;
}

// Size of the oldest group of a request with this many events.
inline int64_t oldest_group(int64_t events, int64_t group) {
  if (events == 0) return 0;
  return events % group == 0 ? group : events % group;
}

}  // namespace longer
