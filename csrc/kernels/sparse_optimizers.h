// Updates of the table rows that have a gradient; no other row is touched. With g = gradient * scale and rate hyper[2]:
//
//   rowwise_adagrad  state[id] += mean(g^2);  row -= rate * g / (sqrt(state[id]) + eps)
//   sparse_adagrad   the same, a state an element
//   sparse_adam      Adam with the bias correction of the row's own step count
//
// All in place. Where scale is not finite nothing changes.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct SparseStepArgs {
  Tensor rows, grad, count, hyper, scale, table, state, second, steps;
  int64_t width, most;  // most: rows that there is room for
};

inline SparseStepArgs sparse_step_args(const char* name, const Call& call, int outs, int attrs) {
  const DenseCheck check(name, call);
  check.counts(5, 5, outs, outs, attrs);
  SparseStepArgs a;
  a.rows = call.input(0);
  a.grad = call.input(1);
  a.count = call.input(2);
  a.hyper = call.input(3);
  a.scale = call.input(4);
  a.table = call.output(0);
  a.state = call.output(1);
  a.second = call.output(2);
  a.steps = call.output(3);
  a.width = a.table.cols();
  a.most = a.rows.size();
  check.indices(a.rows, a.most, "rows must be i32");
  check.wide(a.grad, a.most * a.width, "grad does not fit rows and table");
  check.indices(a.count, 1, "count must be i32 [1]");
  check.wide(a.hyper, 8, "hyper must be f32 [8]");
  check.wide(a.scale, 1, "scale must be f32 [1]");
  check.wide(a.table, a.table.size(), "the table must be f32");
  check.require(a.state.size() == a.table.size() || (outs == 2 && a.state.size() == a.table.rows()), "the state does not fit the table");
  check.wide(a.state, a.state.size(), "the state must be f32");
  if (outs == 4) {
    check.wide(a.second, a.table.size(), "v does not fit the table");
    check.indices(a.steps, a.table.rows(), "steps must be i32 with a value a row");
  }
  return a;
}

}  // namespace longer
