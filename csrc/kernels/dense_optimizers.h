// Updates of the flat dense parameters. With g = grad * scale, rate hyper[0] and shrink = hyper[1] * decay[i]:
//
//   adamw     m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p -= rate * (m' / (sqrt(v') + eps) + shrink * p)
//             with m' = m / (1 - b1^step), v' = v / (1 - b2^step), step = hyper[3]
//   rmsprop   v = alpha v + (1 - alpha) g^2,  mom = momentum mom + rate * g / sqrt(v + eps),  p -= mom + rate * shrink * p
//
//   ema       average = decay average + (1 - decay) param, decay = hyper[4]
//
// In place. Where scale is not finite nothing changes. accumulate: y += x.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct DenseStepArgs {
  Tensor grad, hyper, scale, decay, param, first, second;
  int64_t size;
};

inline DenseStepArgs dense_step_args(const char* name, const Call& call) {
  const DenseCheck check(name, call);
  check.counts(3, 4, 3, 3, 3);
  DenseStepArgs a{call.input(0), call.input(1), call.input(2), call.input(3), call.output(0), call.output(1), call.output(2), 0};
  a.size = a.grad.size();
  check.wide(a.grad, a.size, "grad must be f32");
  check.wide(a.hyper, 8, "hyper must be f32 [8]");
  check.wide(a.scale, 1, "scale must be f32 [1]");
  check.wide_or_absent(a.decay, a.size, "decay differs from grad in size");
  for (const Tensor& t : {a.param, a.first, a.second}) check.wide(t, a.size, "the parameters and their state differ from grad in size");
  return a;
}

struct RunningArgs {
  Tensor x, y;
  int64_t size;
};

inline RunningArgs running_args(const char* name, const Call& call) {
  const DenseCheck check(name, call);
  check.counts(1, 1, 1, 1, 0);
  RunningArgs a{call.input(0), call.output(0), call.output(0).size()};
  check.matrix(a.x, a.x.rows(), a.x.cols(), "x has a wrong type");
  check.require(a.x.size() == a.size, "x and y differ in size");
  check.wide(a.y, a.size, "y must be f32");
  return a;
}

struct AverageArgs {
  Tensor param, hyper, scale, average;
  int64_t size;
};

inline AverageArgs average_args(const Call& call) {
  const DenseCheck check("ema", call);
  check.counts(3, 3, 1, 1, 0);
  AverageArgs a{call.input(0), call.input(1), call.input(2), call.output(0), call.output(0).size()};
  check.wide(a.param, a.size, "param and average differ in size");
  check.wide(a.hyper, 8, "hyper must be f32 [8]");
  check.wide(a.scale, 1, "scale must be f32 [1]");
  check.wide(a.average, a.size, "average must be f32");
  return a;
}

}  // namespace longer
