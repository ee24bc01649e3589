#include "kernels/dense_optimizers.h"

#include <cmath>

#include "kernels/cpu/split.h"
#include "kernels/cpu/step_ops.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/training_kernels.h"

namespace longer::cpu {

namespace {

DenseStep step_of(const DenseStepArgs& a, double first, double second, double eps) {
  DenseStep s = {};
  s.grad = floats(a.grad);
  s.decay = floats(a.decay);
  s.param = floats(a.param);
  s.first = floats(a.first);
  s.second = floats(a.second);
  s.rate = floats(a.hyper)[0];
  s.weight_decay = floats(a.hyper)[1];
  s.scale = floats(a.scale)[0];
  s.a = static_cast<float>(first);
  s.b = static_cast<float>(second);
  s.a_rest = static_cast<float>(1 - first);
  s.b_rest = static_cast<float>(1 - second);
  s.eps = static_cast<float>(eps);
  return s;
}

}  // namespace

void adamw(const Call& call) {
  const DenseStepArgs a = dense_step_args("adamw", call);
  DenseStep s = step_of(a, call.number(0), call.number(1), call.number(2));
  const double step = floats(a.hyper)[3];
  s.first_up = static_cast<float>(1 / (1 - std::pow(call.number(0), step)));
  s.second_up = static_cast<float>(1 / (1 - std::pow(call.number(1), step)));
  if (!std::isfinite(s.scale)) return;
  split(*call.pool, a.size, kElementsTask, [&](int64_t begin, int64_t end) { step_ops().adamw(s, begin, end); });
}

void rmsprop(const Call& call) {
  const DenseStepArgs a = dense_step_args("rmsprop", call);
  const DenseStep s = step_of(a, call.number(0), call.number(2), call.number(1));
  if (!std::isfinite(s.scale)) return;
  split(*call.pool, a.size, kElementsTask, [&](int64_t begin, int64_t end) { step_ops().rmsprop(s, begin, end); });
}

void accumulate(const Call& call) {
  const RunningArgs a = running_args("accumulate", call);
  const Values x = values(a.x);
  float* y = floats(a.y);
  split(*call.pool, a.size, kElementsTask, [&](int64_t begin, int64_t end) { step_ops().accumulate(x, y, begin, end); });
}

void ema(const Call& call) {
  const AverageArgs a = average_args(call);
  const Values x{floats(a.param), false};
  float* y = floats(a.average);
  const float decay = floats(a.hyper)[4];
  if (!std::isfinite(floats(a.scale)[0])) return;
  split(*call.pool, a.size, kElementsTask, [&](int64_t begin, int64_t end) { step_ops().ema(x, decay, y, begin, end); });
}

}  // namespace longer::cpu
