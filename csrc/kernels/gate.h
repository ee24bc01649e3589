// gate: y = x * sigmoid(g).
// gate_dx: dx = dy * sigmoid(g), dg = dy * x * sigmoid(g) * (1 - sigmoid(g)).
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct GateArgs {
  Tensor x, g, dy, y, dx, dg;  // y, or dy, dx and dg
};

inline GateArgs gate_args(const Call& call) {
  const DenseCheck check("gate", call);
  check.counts(2, 2, 1, 1, 0);
  check.same_shape(call.input(0), call.input(1), "x and g differ in shape");
  check.same_shape(call.input(0), call.output(0), "x and y differ in shape");
  return {call.input(0), call.input(1), Tensor(), call.output(0), Tensor(), Tensor()};
}

inline GateArgs gate_dx_args(const Call& call) {
  const DenseCheck check("gate_dx", call);
  check.counts(3, 3, 2, 2, 0);
  for (int i = 1; i < 3; ++i) check.same_shape(call.input(0), call.input(i), "the inputs differ in shape");
  for (int i = 0; i < 2; ++i) check.same_shape(call.input(0), call.output(i), "x and a gradient differ in shape");
  return {call.input(0), call.input(1), call.input(2), Tensor(), call.output(0), call.output(1)};
}

}  // namespace longer
