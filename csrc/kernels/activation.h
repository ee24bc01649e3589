// activation: y = act(x), element by element.
// activation_dx: dx = dy * act'(x).
//
//   0 none     x
//   1 GELU     x/2 (1 + erf(x / sqrt 2))          the exact one
//   2 ReLU     max(x, 0), with slope 0 at 0
//   3 SiLU     x / (1 + exp(-x))
//   4 tanh
//   5 sigmoid  1 / (1 + exp(-x))
#pragma once
#include "kernels/activation_kind.h"
#include "kernels/dense_check.h"

namespace longer {

inline Activation activation_attribute(const DenseCheck& check, const Call& call, int index) {
  const int64_t kind = call.integer(index);
  check.require(kind >= 0 && kind <= 5, "unknown activation");
  return static_cast<Activation>(kind);
}

struct ActivationArgs {
  Activation kind;
  Tensor x, y;
};

inline ActivationArgs activation_args(const Call& call) {
  const DenseCheck check("activation", call);
  check.counts(1, 1, 1, 1, 1);
  check.same_shape(call.input(0), call.output(0), "x and y differ in shape");
  return {activation_attribute(check, call, 0), call.input(0), call.output(0)};
}

struct ActivationDxArgs {
  Activation kind;
  Tensor x, dy, dx;
};

inline ActivationDxArgs activation_dx_args(const Call& call) {
  const DenseCheck check("activation_dx", call);
  check.counts(2, 2, 1, 1, 1);
  check.same_shape(call.input(0), call.input(1), "x and dy differ in shape");
  check.same_shape(call.input(0), call.output(0), "x and dx differ in shape");
  return {activation_attribute(check, call, 0), call.input(0), call.input(1), call.output(0)};
}

}  // namespace longer
