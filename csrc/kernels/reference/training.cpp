#include <algorithm>
#include <cmath>

#include "kernels/dense_optimizers.h"
#include "kernels/loss.h"
#include "kernels/loss_scale.h"
#include "kernels/training_kernels.h"

namespace longer::reference {

namespace {

bool labelled(const BceArgs& a, int64_t i) { return !std::isnan(a.labels.f64()[i]); }
double weight(const BceArgs& a, int64_t i) { return a.weights.present() ? a.weights.f64()[i] : 1; }

// What the mean of a task divides by: as given, or the weights of its labelled candidates.
double total(const BceArgs& a, int64_t t) {
  if (a.totals.present()) return a.totals.f64()[t];
  double sum = 0;
  for (int64_t i = t; i < a.rows * a.tasks; i += a.tasks)
    if (labelled(a, i)) sum += weight(a, i);
  return sum;
}

}  // namespace

void bce(const Call& call) {
  const BceArgs a = bce_args(call, false);
  double loss = 0;
  for (int64_t t = 0; t < a.tasks; ++t) {
    const double weights = total(a, t);
    double sum = 0;
    for (int64_t i = t; i < a.rows * a.tasks; i += a.tasks) {
      if (!labelled(a, i)) continue;
      const double x = a.logits.f64()[i], y = a.labels.f64()[i];
      sum += weight(a, i) * (std::max(x, 0.0) - x * y + std::log1p(std::exp(-std::fabs(x))));
    }
    a.per_task.f64()[t] = weights > 0 ? sum / weights : 0;
    loss += call.number(static_cast<int>(t)) * a.per_task.f64()[t];
  }
  a.loss.f64()[0] = loss;
}

void bce_dx(const Call& call) {
  const BceArgs a = bce_args(call, true);
  const double dloss = a.dloss.present() ? a.dloss.f64()[0] : 1;
  for (int64_t t = 0; t < a.tasks; ++t) {
    const double weights = total(a, t);
    for (int64_t i = t; i < a.rows * a.tasks; i += a.tasks) {
      const double p = 1 / (1 + std::exp(-a.logits.f64()[i]));
      a.dlogits.f64()[i] = labelled(a, i) && weights > 0
                               ? dloss * call.number(static_cast<int>(t)) * weight(a, i) / weights * (p - a.labels.f64()[i])
                               : 0;
    }
  }
}

void sum_squares(const Call& call) {
  const SumSquaresArgs a = sum_squares_args(call);
  double sum = 0;
  for (int64_t i = 0; i < elements_of(a); ++i) sum += a.x.f64()[i] * a.x.f64()[i];
  a.y.f64()[0] = sum;
}

void clip_scale(const Call& call) {
  const ClipScaleArgs a = clip_scale_args(call);
  double sum = 0, guard = 0;
  for (int i = 0; i < a.count; ++i) (i < a.own ? sum : guard) += a.sums[i].f64()[0];
  const double by = a.loss_scale.present() ? a.loss_scale.f64()[0] : 1, norm = std::sqrt(sum) / by;
  a.norm.f64()[0] = norm;
  a.scale.f64()[0] = !std::isfinite(norm + guard) ? NAN : (a.limit > 0 && norm > a.limit ? a.limit / norm : 1) / by;
}

void update_loss_scale(const Call& call) {
  const LossScaleArgs a = loss_scale_args(call);
  next_loss_scale(std::isfinite(a.scale.f64()[0]), a.interval, a.loss_scale.f64()[0], a.good.i32()[0]);
}

void adamw(const Call& call) {
  const DenseStepArgs a = dense_step_args("adamw", call);
  const double rate = a.hyper.f64()[0], scale = a.scale.f64()[0], step = a.hyper.f64()[3];
  const double b1 = call.number(0), b2 = call.number(1), eps = call.number(2);
  const double whole1 = 1 - std::pow(b1, step), whole2 = 1 - std::pow(b2, step);
  if (!std::isfinite(scale)) return;
  for (int64_t i = 0; i < a.size; ++i) {
    const double g = a.grad.f64()[i] * scale, shrink = a.decay.present() ? a.hyper.f64()[1] * a.decay.f64()[i] : 0;
    double &p = a.param.f64()[i], &m = a.first.f64()[i], &v = a.second.f64()[i];
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    p -= rate * (m / whole1 / (std::sqrt(v / whole2) + eps) + shrink * p);
  }
}

void rmsprop(const Call& call) {
  const DenseStepArgs a = dense_step_args("rmsprop", call);
  const double rate = a.hyper.f64()[0], scale = a.scale.f64()[0];
  const double alpha = call.number(0), eps = call.number(1), momentum = call.number(2);
  if (!std::isfinite(scale)) return;
  for (int64_t i = 0; i < a.size; ++i) {
    const double g = a.grad.f64()[i] * scale, shrink = a.decay.present() ? a.hyper.f64()[1] * a.decay.f64()[i] : 0;
    double &p = a.param.f64()[i], &v = a.first.f64()[i], &velocity = a.second.f64()[i];
    v = alpha * v + (1 - alpha) * g * g;
    velocity = momentum * velocity + rate * g / std::sqrt(v + eps);
    p -= velocity + rate * shrink * p;
  }
}

void accumulate(const Call& call) {
  const RunningArgs a = running_args("accumulate", call);
  for (int64_t i = 0; i < a.size; ++i) a.y.f64()[i] += a.x.f64()[i];
}

void ema(const Call& call) {
  const AverageArgs a = average_args(call);
  const double decay = a.hyper.f64()[4];
  if (!std::isfinite(a.scale.f64()[0])) return;
  for (int64_t i = 0; i < a.size; ++i) a.average.f64()[i] = decay * a.average.f64()[i] + (1 - decay) * a.param.f64()[i];
}

}  // namespace longer::reference
