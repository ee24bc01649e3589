#include "kernels/loss.h"

#include <cmath>

#include "kernels/cpu/split.h"
#include "kernels/cpu/step_ops.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/loss_scale.h"
#include "kernels/training_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kCandidates = 2048;  // a chunk of the sums over candidates

// Of a chunk of candidates and a task; the chunks are added up in ascending order.
struct TaskSum {
  double weight, loss;
};

int64_t chunks(const BceArgs& a) { return (a.rows + kCandidates - 1) / kCandidates; }
int64_t sums_bytes(const BceArgs& a) { return align_up((chunks(a) + 1) * a.tasks * static_cast<int64_t>(sizeof(TaskSum))); }

bool labelled(const BceArgs& a, int64_t i) { return !std::isnan(a.labels.f32()[i]); }
double weight(const BceArgs& a, int64_t i) { return a.weights.present() ? a.weights.f32()[i] : 1.0; }

double loss_of(double x, double label) { return std::max(x, 0.0) - x * label + std::log1p(std::exp(-std::fabs(x))); }

// The sums of every task: weights, and losses where they are wanted.
const TaskSum* sum_tasks(const BceArgs& a, const Call& call, bool with_loss) {
  TaskSum* sums = static_cast<TaskSum*>(call.workspace);
  split(*call.pool, a.rows, kCandidates, [&](int64_t begin, int64_t end) {
    TaskSum* sum = sums + begin / kCandidates * a.tasks;
    for (int64_t t = 0; t < a.tasks; ++t) sum[t] = {0, 0};
    for (int64_t r = begin; r < end; ++r)
      for (int64_t t = 0; t < a.tasks; ++t) {
        const int64_t i = r * a.tasks + t;
        if (!labelled(a, i)) continue;
        sum[t].weight += weight(a, i);
        if (with_loss) sum[t].loss += weight(a, i) * loss_of(a.logits.f32()[i], a.labels.f32()[i]);
      }
  });
  TaskSum* total = sums + chunks(a) * a.tasks;
  for (int64_t t = 0; t < a.tasks; ++t) {
    total[t] = {0, 0};
    for (int64_t chunk = 0; chunk < chunks(a); ++chunk) {
      total[t].weight += sums[chunk * a.tasks + t].weight;
      total[t].loss += sums[chunk * a.tasks + t].loss;
    }
    if (a.totals.present()) total[t].weight = a.totals.f32()[t];
  }
  return total;
}

void only_f32(const BceArgs& a) {
  for (const Tensor& t : {a.logits, a.labels, a.weights, a.totals, a.dloss}) floats(t);
}

int64_t square_chunks(int64_t elements) { return (elements + kElementsTask - 1) / kElementsTask; }

}  // namespace

int64_t bce_workspace(const Call& call) { return sums_bytes(bce_args(call, false)); }
int64_t bce_dx_workspace(const Call& call) { return sums_bytes(bce_args(call, true)); }

void bce(const Call& call) {
  const BceArgs a = bce_args(call, false);
  only_f32(a);
  const TaskSum* total = sum_tasks(a, call, true);
  double loss = 0;
  for (int64_t t = 0; t < a.tasks; ++t) {
    const double mean = total[t].weight > 0 ? total[t].loss / total[t].weight : 0;
    floats(a.per_task)[t] = static_cast<float>(mean);
    loss += call.number(static_cast<int>(t)) * mean;
  }
  floats(a.loss)[0] = static_cast<float>(loss);
}

void bce_dx(const Call& call) {
  const BceArgs a = bce_args(call, true);
  only_f32(a);
  const TaskSum* total = sum_tasks(a, call, false);
  float* dlogits = floats(a.dlogits);
  const double dloss = a.dloss.present() ? a.dloss.f32()[0] : 1;
  split(*call.pool, a.rows, kCandidates, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t t = 0; t < a.tasks; ++t) {
        const int64_t i = r * a.tasks + t;
        double g = 0;
        if (labelled(a, i) && total[t].weight > 0)
          g = dloss * call.number(static_cast<int>(t)) * weight(a, i) / total[t].weight *
              (1 / (1 + std::exp(-static_cast<double>(a.logits.f32()[i]))) - a.labels.f32()[i]);
        dlogits[i] = static_cast<float>(g);
      }
  });
}

int64_t sum_squares_workspace(const Call& call) { return align_up(square_chunks(sum_squares_args(call).x.size()) * 8); }

void sum_squares(const Call& call) {
  const SumSquaresArgs a = sum_squares_args(call);
  const Values x = values(a.x);
  const int64_t elements = elements_of(a);
  double* partial = static_cast<double*>(call.workspace);
  split(*call.pool, elements, kElementsTask,
        [&](int64_t begin, int64_t end) { partial[begin / kElementsTask] = step_ops().sum_squares(x, begin, end); });
  double sum = 0;
  for (int64_t chunk = 0; chunk < square_chunks(elements); ++chunk) sum += partial[chunk];
  a.y.f64()[0] = sum;
}

void clip_scale(const Call& call) {
  const ClipScaleArgs a = clip_scale_args(call);
  double sum = 0, guard = 0;
  for (int i = 0; i < a.count; ++i) (i < a.own ? sum : guard) += a.sums[i].f64()[0];
  const double by = a.loss_scale.present() ? a.loss_scale.f32()[0] : 1, norm = std::sqrt(sum) / by;
  floats(a.norm)[0] = static_cast<float>(norm);
  floats(a.scale)[0] = static_cast<float>(!std::isfinite(norm + guard) ? NAN : (a.limit > 0 && norm > a.limit ? a.limit / norm : 1) / by);
}

void update_loss_scale(const Call& call) {
  const LossScaleArgs a = loss_scale_args(call);
  next_loss_scale(std::isfinite(floats(a.scale)[0]), a.interval, floats(a.loss_scale)[0], a.good.i32()[0]);
}

}  // namespace longer::cpu
