// swiglu: y = silu(left) * right, where a row of a is left (hidden columns), then right.
// swiglu_dx: dleft = dy * right * silu'(left), dright = dy * silu(left).
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct SwigluArgs {
  Tensor a, dy, y, da;  // y or dy and da
  int64_t rows, hidden;
};

inline SwigluArgs swiglu_args(const Call& call) {
  const DenseCheck check("swiglu", call);
  check.counts(1, 1, 1, 1, 0);
  SwigluArgs s{call.input(0), Tensor(), call.output(0), Tensor(), call.output(0).rows(), call.output(0).cols()};
  check.matrix(s.y, s.rows, s.hidden, "y has a wrong type");
  check.matrix(s.a, s.rows, 2 * s.hidden, "a must be twice as wide as y");
  return s;
}

inline SwigluArgs swiglu_dx_args(const Call& call) {
  const DenseCheck check("swiglu_dx", call);
  check.counts(2, 2, 1, 1, 0);
  SwigluArgs s{call.input(0), call.input(1), Tensor(), call.output(0), call.input(1).rows(), call.input(1).cols()};
  check.matrix(s.dy, s.rows, s.hidden, "dy has a wrong type");
  check.matrix(s.a, s.rows, 2 * s.hidden, "a must be twice as wide as dy");
  check.matrix(s.da, s.rows, 2 * s.hidden, "da differs from a");
  return s;
}

}  // namespace longer
