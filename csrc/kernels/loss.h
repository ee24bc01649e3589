// bce: binary cross-entropy with logits. per_task[t] = weighted mean over the candidates that have a label of task t
// (NaN is no label; 0 where there is none); loss = sum of task weight * per_task. Given totals take the place of the sum of
// the weights that the mean divides by: a batch that is part of a larger one gives its share of the mean.
// bce_dx: dlogits = dloss * task weight * weight / total weight * (sigmoid(x) - label), 0 without a label; dloss absent: 1.
// sum_squares: y = sum of x^2 in f64, of the first count rows only where count is given.
// clip_scale: norm = sqrt of the sum of the first inputs; scale = min(1, limit / norm), NaN unless all inputs are finite. Where
// the gradients are those of a loss times loss_scale, norm is that of the gradients without it, and scale takes it out.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct BceArgs {
  Tensor logits, labels, weights, totals, dloss, loss, per_task, dlogits;
  int64_t rows, tasks;
};

inline BceArgs bce_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "bce_dx" : "bce", call);
  BceArgs a{call.input(0), call.input(1), call.input(2), call.input(3), call.input(4), Tensor(), Tensor(), Tensor(), 0, 0};
  check.counts(2, backward ? 5 : 4, backward ? 1 : 2, backward ? 1 : 2, static_cast<int>(a.logits.cols()));
  a.rows = a.logits.rows();
  a.tasks = a.logits.cols();
  check.wide(a.logits, a.rows * a.tasks, "logits must be f32");
  check.wide(a.labels, a.rows * a.tasks, "labels differ from logits");
  check.wide_or_absent(a.weights, a.rows * a.tasks, "weights differ from logits");
  check.wide_or_absent(a.totals, a.tasks, "totals must have a value a task");
  check.wide_or_absent(a.dloss, 1, "dloss must be f32 [1]");
  if (backward) {
    a.dlogits = call.output(0);
    check.wide(a.dlogits, a.rows * a.tasks, "dlogits differ from logits");
  } else {
    a.loss = call.output(0);
    a.per_task = call.output(1);
    check.wide(a.loss, 1, "loss must be f32 [1]");
    check.wide(a.per_task, a.tasks, "per_task must have a value a task");
  }
  return a;
}

struct SumSquaresArgs {
  Tensor x, count, y;
};

inline SumSquaresArgs sum_squares_args(const Call& call) {
  const DenseCheck check("sum_squares", call);
  check.counts(1, 2, 1, 1, 0);
  SumSquaresArgs a{call.input(0), call.input(1), call.output(0)};
  check.matrix(a.x, a.x.rows(), a.x.cols(), "x has a wrong type");
  if (a.count.present()) check.indices(a.count, 1, "count must be i32 [1]");
  check.require(a.y.size() == 1 && a.y.dtype == DType::f64, "y must be f64 [1]");
  return a;
}

// Elements that count, where count is known.
inline int64_t elements_of(const SumSquaresArgs& a) {
  if (!a.count.present()) return a.x.size();
  const int64_t rows = a.count.i32()[0];
  return (rows < a.x.rows() ? rows : a.x.rows()) * a.x.cols();
}

struct ClipScaleArgs {
  const Tensor* sums;
  int count, own;  // sums, and those that the norm is of; the others only have to be finite
  Tensor loss_scale, scale, norm;
  double limit;
};

inline ClipScaleArgs clip_scale_args(const Call& call) {
  const DenseCheck check("clip_scale", call);
  check.counts(1, call.ins, 2, 2, 3);
  const int count = call.ins - (call.integer(2) ? 1 : 0);
  check.require(call.integer(1) >= 1 && call.integer(1) <= count, "the norm is of 1 to all of the sums");
  const Tensor loss_scale = call.input(call.integer(2) ? count : call.ins);
  check.wide_or_absent(loss_scale, 1, "loss_scale must be f32 [1]");
  for (int i = 0; i < count; ++i)
    check.require(call.input(i).size() == 1 && call.input(i).dtype == DType::f64, "the sums must be f64 [1]");
  check.wide(call.output(0), 1, "scale must be f32 [1]");
  check.wide(call.output(1), 1, "norm must be f32 [1]");
  return {call.in, count, static_cast<int>(call.integer(1)), loss_scale, call.output(0), call.output(1), call.number(0)};
}

}  // namespace longer
