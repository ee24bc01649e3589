// Every (candidate, event) pair of a request; the rows of pairs are ordered by request, candidate, event.
//
// pair_features: y[p] = [c, e, c - e, c * e]
//   dc = sum over the events of g0 + g2 + g3 * e, de = sum over the candidates of g1 - g2 + g3 * c, with dy = [g0, g1, g2, g3]
// pair_pool: y[c] = sum over the events of w[p] * e
//   dw[p] = dy[c] . e, de = sum over the candidates of w[p] * dy[c]
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct PairOffsets {
  const int32_t *candidates, *events, *pairs;  // null while a workspace is asked for
  int64_t requests;
};

inline PairOffsets pair_offsets(const DenseCheck& check, const Tensor& candidates, const Tensor& events, const Tensor& pairs) {
  const int64_t requests = check.offsets(candidates, "candidate_offsets must be i32");
  check.indices(events, requests + 1, "the offsets differ in length");
  check.indices(pairs, requests + 1, "the offsets differ in length");
  return {candidates.i32(), events.i32(), pairs.i32(), requests};
}

struct PairFeaturesArgs {
  Tensor c, e, y, dc, de;  // y or dy
  PairOffsets at;
  int64_t candidates, events, pairs, width;
};

inline PairFeaturesArgs pair_features_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "pair_features_dx" : "pair_features", call);
  const int first = backward ? 3 : 2;
  check.counts(first + 3, first + 3, backward ? 2 : 1, backward ? 2 : 1, 0);
  PairFeaturesArgs a{call.input(0), call.input(1), backward ? call.input(2) : call.output(0), Tensor(), Tensor(),
                     pair_offsets(check, call.input(first), call.input(first + 1), call.input(first + 2)), 0, 0, 0, 0};
  a.candidates = a.c.rows();
  a.events = a.e.rows();
  a.pairs = a.y.rows();
  a.width = a.c.cols();
  check.matrix(a.c, a.candidates, a.width, "c has a wrong type");
  check.matrix(a.e, a.events, a.width, "e differs from c in width");
  check.matrix(a.y, a.pairs, 4 * a.width, "a pair must be four times as wide as c");
  if (!backward) return a;
  a.dc = call.output(0);
  a.de = call.output(1);
  check.matrix(a.dc, a.candidates, a.width, "dc differs from c");
  check.matrix(a.de, a.events, a.width, "de differs from e");
  return a;
}

struct PairPoolArgs {
  Tensor w, e, y, dw, de;  // y or dy
  PairOffsets at;
  int64_t candidates, events, pairs, width;
};

inline PairPoolArgs pair_pool_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "pair_pool_dx" : "pair_pool", call);
  const int first = backward ? 3 : 2;
  check.counts(first + 3, first + 3, backward ? 2 : 1, backward ? 2 : 1, 0);
  PairPoolArgs a{call.input(0), call.input(1), backward ? call.input(2) : call.output(0), Tensor(), Tensor(),
                 pair_offsets(check, call.input(first), call.input(first + 1), call.input(first + 2)), 0, 0, 0, 0};
  a.candidates = a.y.rows();
  a.events = a.e.rows();
  a.pairs = a.w.size();
  a.width = a.e.cols();
  check.matrix(a.w, a.pairs, 1, "w must be a column");
  check.matrix(a.e, a.events, a.width, "e has a wrong type");
  check.matrix(a.y, a.candidates, a.width, "a pooled row must be as wide as e");
  if (!backward) return a;
  a.dw = call.output(0);
  a.de = call.output(1);
  check.matrix(a.dw, a.pairs, 1, "dw differs from w");
  check.matrix(a.de, a.events, a.width, "de differs from e");
  return a;
}

}  // namespace longer
