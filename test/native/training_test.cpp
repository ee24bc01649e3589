// Loss, gradient norm and dense optimizers: reference and kernels against loops written here.
#include "op_case.h"

using namespace longer;
using namespace longer::test;

namespace {

using Numbers = std::vector<double>;
DType some_type() { return whole(0, 1) ? DType::bf16 : DType::f32; }

Value number(DType type, double x) {
  Value v = blank(type, {1});
  v.at[0] = x;
  return v;
}

void bce() {
  const int64_t rows = whole(0, 3) ? whole(0, 5000) : whole(0, 1), tasks = whole(1, 3);
  const Value logits = filled(DType::f32, {rows, tasks}, -30, 30);
  Value labels = filled(DType::f32, {rows, tasks}, 0, 1);
  for (int64_t i = 0; i < rows * tasks; ++i)
    if (i % tasks == 1 || whole(0, 2) == 0) labels.at[i] = i % tasks == 1 ? std::nan("") : static_cast<double>(whole(0, 1));  // task 1 has no label
  const Value weights = whole(0, 1) ? filled(DType::f32, {rows, tasks}, 0, 2) : none();
  const Value totals = whole(0, 1) ? filled(DType::f32, {tasks}, 1, 100) : none();
  Numbers task_weights, per_task, dlogits(labels.at.size(), 0.0);
  double loss = 0;
  for (int64_t t = 0; t < tasks; ++t) {
    task_weights.push_back(uniform(0.5, 2));
    double total = 0, sum = 0;
    const auto each = [&](auto&& body) {
      for (int64_t r = 0; r < rows; ++r)
        if (labels(r, t) == labels(r, t)) body(logits(r, t), labels(r, t), weights.absent ? 1.0 : weights(r, t), r);
    };
    each([&](double, double, double w, int64_t) { total += w; });
    if (!totals.absent) total = totals.at[t];
    each([&](double x, double y, double w, int64_t r) {
      const double p = 1 / (1 + std::exp(-x)), q = 1 / (1 + std::exp(x));
      sum -= w * (y * std::log(p) + (1 - y) * std::log(q));
      dlogits[r * tasks + t] = task_weights[t] * w / total * (p - y);
    });
    per_task.push_back(total > 0 ? sum / total : 0);
    loss += task_weights[t] * per_task[t];
  }
  check({"bce", {logits, labels, weights, totals}, {blank(DType::f32, {1}), blank(DType::f32, {tasks})}, task_weights}, {{loss}, per_task}, 1e-6);
  check({"bce_dx", {logits, labels, weights, totals}, {blank(DType::f32, {rows, tasks})}, task_weights}, {dlogits}, 1e-6);
  for (double& d : dlogits) d *= 1024;
  check({"bce_dx", {logits, labels, weights, totals, number(DType::f32, 1024)}, {blank(DType::f32, {rows, tasks})}, task_weights}, {dlogits}, 1e-6);
}

void sum_squares() {
  const int64_t rows = whole(0, 3) ? whole(0, 900) : whole(0, 1), cols = whole(1, 70), count = whole(0, rows);
  for (const bool counted : {false, true}) {
    const Value x = filled(some_type(), {rows, cols}, -3, 3);
    double sum = 0;
    for (int64_t i = 0; i < (counted ? count : rows) * cols; ++i) sum += x.at[i] * x.at[i];
    check({"sum_squares", {x, counted ? integers({count}) : none()}, {blank(DType::f64, {1})}, {}}, {{sum}}, 1e-12);
  }
}

void clip_scale() {
  for (const double bad : {0.0, std::nan(""), HUGE_VAL})
    for (const double limit : {0.0, 1.5, 100.0}) {
      const double a = uniform(1, 9), norm = std::sqrt(a + bad), scale = !std::isfinite(norm) ? std::nan("") : limit > 0 && norm > limit ? limit / norm : 1;
      check({"clip_scale", {number(DType::f64, a), number(DType::f64, bad)}, {blank(DType::f32, {1}), blank(DType::f32, {1})}, {limit, 2, 0}},
            {{scale}, {norm}}, 1e-6);
      const double own = std::sqrt(a), guarded = !std::isfinite(bad) ? std::nan("") : limit > 0 && own > limit ? limit / own : 1;
      check({"clip_scale", {number(DType::f64, a), number(DType::f64, bad)}, {blank(DType::f32, {1}), blank(DType::f32, {1})}, {limit, 1, 0}},
            {{guarded}, {own}}, 1e-6);
      // the same gradients, of a loss times 64
      check({"clip_scale", {number(DType::f64, 64 * 64 * a), number(DType::f64, bad), number(DType::f32, 64)}, {blank(DType::f32, {1}), blank(DType::f32, {1})}, {limit, 1, 1}},
            {{guarded / 64}, {own}}, 1e-6);
    }
}

void update_loss_scale() {
  const auto after = [](double scale, double loss_scale, int64_t good, double interval, double want, double want_good) {
    check({"update_loss_scale", {number(DType::f32, scale)}, {number(DType::f32, loss_scale), integers({good})}, {interval}}, {{want}, {want_good}}, 0);
  };
  after(0.5, 1024, 3, 2000, 1024, 4);
  after(1e-6, 1024, 1999, 2000, 2048, 0);
  after(0.5, 1024, 0, 1, 2048, 0);
  after(std::nan(""), 1024, 3, 2000, 512, 0);
  after(HUGE_VAL, 1.5, 3, 2000, 1, 0);
  after(std::nan(""), 1, 0, 2000, 1, 0);
  after(0.5, 0x1p127, 4, 5, 0x1p127, 0);  // twice that is no f32
}

void dense_optimizers() {
  const int64_t n = whole(0, 3) ? whole(1, 40000) : whole(0, 40);
  const Value grad = filled(DType::f32, {n}), p = filled(DType::f32, {n}), m = filled(DType::f32, {n}), v = filled(DType::f32, {n}, 0.01, 1);
  Value hyper = filled(DType::f32, {8}, 0.01, 0.1);
  hyper.at[3] = static_cast<double>(whole(1, 50));
  const Value decay = whole(0, 1) ? filled(DType::f32, {n}, 0, 1) : none();
  for (const double scale : {0.25, std::nan("")}) {
    Numbers p1 = p.at, m1 = m.at, v1 = v.at, p2 = p.at, v2 = v.at, u2 = m.at;
    for (int64_t i = 0; i < n && scale == scale; ++i) {
      const double g = grad.at[i] * scale, shrink = decay.absent ? 0 : hyper.at[1] * decay.at[i];
      m1[i] = 0.9 * m1[i] + 0.1 * g;
      v1[i] = 0.99 * v1[i] + 0.01 * g * g;
      p1[i] -= hyper.at[0] * (m1[i] / (1 - std::pow(0.9, hyper.at[3])) / (std::sqrt(v1[i] / (1 - std::pow(0.99, hyper.at[3]))) + 1e-8) + shrink * p1[i]);
      v2[i] = 0.95 * v2[i] + 0.05 * g * g;
      u2[i] = 0.8 * u2[i] + hyper.at[0] * g / std::sqrt(v2[i] + 1e-6);
      p2[i] -= u2[i] + hyper.at[0] * shrink * p2[i];
    }
    const std::vector<Value> in = {grad, hyper, number(DType::f32, scale), decay};
    check({"adamw", in, {p, m, v}, {0.9, 0.99, 1e-8}}, {p1, m1, v1}, 1e-6);
    check({"rmsprop", in, {p, v, m}, {0.95, 1e-6, 0.8}}, {p2, v2, u2}, 1e-6);
  }
}

void running() {
  const int64_t n = whole(0, 40000);
  const Value x = filled(some_type(), {n}), y = filled(DType::f32, {n});
  Value hyper = filled(DType::f32, {8});
  hyper.at[4] = 0.99;
  Numbers sum, mean(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    sum.push_back(x.at[i] + y.at[i]);
  }
  check({"accumulate", {x}, {y}, {}}, {sum}, 1e-6);
  const Value param = filled(DType::f32, {n});
  for (int64_t i = 0; i < n; ++i) mean[i] = 0.99 * y.at[i] + (1 - 0.99) * param.at[i];
  check({"ema", {param, hyper, number(DType::f32, 0.5)}, {y}, {}}, {mean}, 1e-6);
  check({"ema", {param, hyper, number(DType::f32, std::nan(""))}, {y}, {}}, {y.at}, 1e-6);
}

}  // namespace

int main() {
  if (!isa_is_there()) return kSkipped;
  for (int round = 0; round < 12; ++round) {
    bce();
    sum_squares();
    clip_scale();
    update_loss_scale();
    dense_optimizers();
    running();
  }
  return report("training_test");
}
