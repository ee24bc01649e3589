// Loss, norms and dense optimizers as plain loops over a number type. See docs/operations.md for the arguments.
#pragma once
#include <cmath>
#include <vector>

#include "kernels/plain/dense.h"

namespace longer::plain {

template <class T>
struct Bce {
  const Tensor &logits, &labels, &weights;
  int64_t rows, tasks;
  explicit Bce(const Call& c) : logits(c.input(0)), labels(c.input(1)), weights(c.input(2)), rows(logits.rows()), tasks(logits.cols()) {
    expect(labels.size() == logits.size(), "bce: labels and logits differ in shape");
  }
  bool labelled(int64_t i) const { return !std::isnan(static_cast<double>(ptr<T>(labels)[i])); }
  double weight(int64_t i) const { return weights.present() ? static_cast<double>(ptr<T>(weights)[i]) : 1; }
  // Sum of the weights of a task's labelled candidates.
  double total(int64_t t) const {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r)
      if (labelled(r * tasks + t)) sum += weight(r * tasks + t);
    return sum;
  }
};

template <class T>
void bce(const Call& c) {
  const Bce<T> b(c);
  double loss = 0;
  for (int64_t t = 0; t < b.tasks; ++t) {
    const double total = b.total(t);
    double sum = 0;
    for (int64_t r = 0; r < b.rows; ++r) {
      const int64_t i = r * b.tasks + t;
      if (!b.labelled(i)) continue;
      const double x = ptr<T>(b.logits)[i], y = ptr<T>(b.labels)[i];
      sum += b.weight(i) * (std::max(x, 0.0) - x * y + std::log1p(std::exp(-std::fabs(x))));
    }
    const double mean = total > 0 ? sum / total : 0;
    ptr<T>(c.output(1))[t] = static_cast<T>(mean);
    loss += c.number(static_cast<int>(t)) * mean;
  }
  ptr<T>(c.output(0))[0] = static_cast<T>(loss);
}

template <class T>
void bce_dx(const Call& c) {
  const Bce<T> b(c);
  for (int64_t t = 0; t < b.tasks; ++t) {
    const double total = b.total(t);
    for (int64_t r = 0; r < b.rows; ++r) {
      const int64_t i = r * b.tasks + t;
      double g = 0;
      if (b.labelled(i)) {
        const double x = ptr<T>(b.logits)[i];
        const double p = x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
        g = c.number(static_cast<int>(t)) * b.weight(i) / total * (p - static_cast<double>(ptr<T>(b.labels)[i]));
      }
      ptr<T>(c.output(0))[i] = static_cast<T>(g);
    }
  }
}

// Partial sums over chunks of this many numbers, combined in ascending order.
constexpr int64_t kChunk = 1 << 14;

template <class Body>
void for_chunks(const Call& c, int64_t n, Body&& body) {
  c.pool->parallel_for((n + kChunk - 1) / kChunk, [&](int64_t t, int) { body(t, t * kChunk, n < (t + 1) * kChunk ? n : (t + 1) * kChunk); });
}

template <class T>
void sum_squares(const Call& c) {
  const Tensor& x = c.input(0);
  const int64_t n = c.input(1).present() ? c.input(1).i32()[0] * x.cols() : x.size();
  std::vector<double> partial(static_cast<size_t>((n + kChunk - 1) / kChunk), 0.0);
  for_chunks(c, n, [&](int64_t t, int64_t from, int64_t to) {
    double s = 0;
    for (int64_t i = from; i < to; ++i) s += static_cast<double>(ptr<T>(x)[i]) * static_cast<double>(ptr<T>(x)[i]);
    partial[static_cast<size_t>(t)] = s;
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  c.output(0).f64()[0] = sum;
}

template <class T>
void clip_scale(const Call& c) {
  double sum = 0;
  for (int i = 0; i < c.ins; ++i) sum += c.input(i).f64()[0];
  const double norm = std::sqrt(sum), limit = c.number(0);
  ptr<T>(c.output(1))[0] = static_cast<T>(norm);
  ptr<T>(c.output(0))[0] = static_cast<T>(!std::isfinite(norm) ? NAN : limit > 0 && norm > limit ? limit / norm : 1);
}

// Arguments that the dense optimizers share.
template <class T>
struct DenseStep {
  const T *grad, *decay;
  T lr, wd, scale;
  double step;
  int64_t n;
  explicit DenseStep(const Call& c) {
    const T* hyper = ptr<T>(c.input(1));
    grad = ptr<T>(c.input(0));
    decay = c.input(3).present() ? ptr<T>(c.input(3)) : nullptr;
    lr = hyper[0];
    wd = hyper[1];
    step = hyper[3];
    scale = ptr<T>(c.input(2))[0];
    n = c.input(0).size();
  }
  bool skip() const { return !std::isfinite(static_cast<double>(scale)); }
  T shrink(int64_t i) const { return decay ? wd * decay[i] : T(0); }
};

template <class T>
void adamw(const Call& c) {
  const DenseStep<T> s(c);
  if (s.skip()) return;
  T *p = ptr<T>(c.output(0)), *m = ptr<T>(c.output(1)), *v = ptr<T>(c.output(2));
  const T b1 = static_cast<T>(c.number(0)), b2 = static_cast<T>(c.number(1)), eps = static_cast<T>(c.number(2));
  const T c1 = static_cast<T>(1 / (1 - std::pow(c.number(0), s.step))), c2 = static_cast<T>(1 / (1 - std::pow(c.number(1), s.step)));
  for_chunks(c, s.n, [&](int64_t, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const T g = s.grad[i] * s.scale;
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      p[i] -= s.lr * ((m[i] * c1) / (std::sqrt(v[i] * c2) + eps) + s.shrink(i) * p[i]);
    }
  });
}

template <class T>
void rmsprop(const Call& c) {
  const DenseStep<T> s(c);
  if (s.skip()) return;
  T *p = ptr<T>(c.output(0)), *v = ptr<T>(c.output(1)), *mom = ptr<T>(c.output(2));
  const T alpha = static_cast<T>(c.number(0)), eps = static_cast<T>(c.number(1)), momentum = static_cast<T>(c.number(2));
  for_chunks(c, s.n, [&](int64_t, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const T g = s.grad[i] * s.scale;
      v[i] = alpha * v[i] + (1 - alpha) * g * g;
      mom[i] = momentum * mom[i] + s.lr * g / std::sqrt(v[i] + eps);
      p[i] -= mom[i] + s.lr * s.shrink(i) * p[i];
    }
  });
}

template <class T>
void accumulate(const Call& c) {
  for_chunks(c, c.input(0).size(), [&](int64_t, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) ptr<T>(c.output(0))[i] += ptr<T>(c.input(0))[i];
  });
}

template <class T>
void ema(const Call& c) {
  const T decay = static_cast<T>(c.number(0));
  for_chunks(c, c.input(0).size(), [&](int64_t, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) ptr<T>(c.output(0))[i] = decay * ptr<T>(c.output(0))[i] + (1 - decay) * ptr<T>(c.input(0))[i];
  });
}

}  // namespace longer::plain
