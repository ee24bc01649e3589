#include "kernels/sparse_optimizers.h"

#include <cmath>

#include "kernels/cpu/split.h"
#include "kernels/cpu/step_ops.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/embedding_kernels.h"

namespace longer::cpu {

namespace {

SparseStep step_of(const SparseStepArgs& a) {
  SparseStep s = {};
  s.rows = a.rows.i32();
  s.grad = floats(a.grad);
  s.table = floats(a.table);
  s.first = floats(a.state);
  s.second = floats(a.second);
  s.rate = floats(a.hyper)[2];
  s.scale = floats(a.scale)[0];
  s.width = a.width;
  return s;
}

// The unique rows ascend, so the first and the last say whether all are in the table.
int64_t unique_rows(const SparseStepArgs& a) {
  const int64_t count = a.count.i32()[0];
  if (count < 0 || count > a.most || (count > 0 && (a.rows.i32()[0] < 0 || a.rows.i32()[count - 1] >= a.table.rows())))
    throw std::runtime_error("a gradient row is outside the table of " + std::to_string(a.table.rows()) + " rows");
  return count;
}

}  // namespace

void rowwise_adagrad(const Call& call) {
  const SparseStepArgs a = sparse_step_args("rowwise_adagrad", call, 2, 1);
  SparseStep s = step_of(a);
  s.eps = static_cast<float>(call.number(0));
  if (!std::isfinite(s.scale)) return;
  split(*call.pool, unique_rows(a), rows_a_task(a.width), [&](int64_t begin, int64_t end) { step_ops().rowwise_adagrad(s, begin, end); });
}

void sparse_adagrad(const Call& call) {
  const SparseStepArgs a = sparse_step_args("sparse_adagrad", call, 2, 1);
  SparseStep s = step_of(a);
  s.eps = static_cast<float>(call.number(0));
  if (!std::isfinite(s.scale)) return;
  split(*call.pool, unique_rows(a), rows_a_task(a.width), [&](int64_t begin, int64_t end) { step_ops().sparse_adagrad(s, begin, end); });
}

void sparse_adam(const Call& call) {
  constexpr int64_t kRows = 64;
  const SparseStepArgs a = sparse_step_args("sparse_adam", call, 4, 3);
  SparseStep s = step_of(a);
  const double b1 = call.number(0), b2 = call.number(1);
  s.beta1 = static_cast<float>(b1);
  s.beta2 = static_cast<float>(b2);
  s.rest1 = static_cast<float>(1 - b1);
  s.rest2 = static_cast<float>(1 - b2);
  s.eps = static_cast<float>(call.number(2));
  if (!std::isfinite(s.scale)) return;
  int32_t* steps = a.steps.i32();
  split(*call.pool, unique_rows(a), kRows, [&](int64_t begin, int64_t end) {
    float up[2 * kRows];
    for (int64_t r = begin; r < end; ++r) {
      const int32_t step = ++steps[s.rows[r]];
      up[2 * (r - begin)] = static_cast<float>(1 / (1 - std::pow(b1, step)));
      up[2 * (r - begin) + 1] = static_cast<float>(1 / (1 - std::pow(b2, step)));
    }
    step_ops().sparse_adam(s, up, begin, end);
  });
}

}  // namespace longer::cpu
