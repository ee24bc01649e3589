// Embedding operations as plain loops over a number type. See docs/operations.md for the arguments.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/plain/dense.h"

namespace longer::plain {

// The ids of one row of a field: [from, to).
struct IdRange {
  int64_t from, to;
};

inline IdRange ids_of(const Tensor& offsets, int64_t row) {
  if (!offsets.present()) return {row, row + 1};
  return {offsets.i32()[row], offsets.i32()[row + 1]};
}

// What a mean divides by: the ids that are there.
inline int64_t present_ids(const int32_t* ids, IdRange range) {
  int64_t n = 0;
  for (int64_t i = range.from; i < range.to; ++i) n += ids[i] >= 0;
  return n;
}

template <class T>
void embed(const Call& c) {
  const Tensor& y = c.output(0);
  const int fields = static_cast<int>(c.integer(0));
  for_rows(c, y.rows(), [&](int64_t r) {
    T* row = ptr<T>(y) + r * y.cols();
    std::fill(row, row + y.cols(), T(0));
    for (int f = 0; f < fields; ++f) {
      const Tensor &table = c.input(3 * f), &ids = c.input(3 * f + 1);
      const int64_t column = c.integer(1 + 2 * f), w = table.cols();
      const IdRange range = ids_of(c.input(3 * f + 2), r);
      const int64_t n = c.integer(2 + 2 * f) == 2 ? present_ids(ids.i32(), range) : 1;
      for (int64_t i = range.from; i < range.to; ++i) {
        const int64_t id = ids.i32()[i];
        if (id < 0) continue;
        expect(id < table.rows(), "embed: an id is past its table");
        for (int64_t j = 0; j < w; ++j) row[column + j] += ptr<T>(table)[id * w + j] / static_cast<T>(n);
      }
    }
  });
}

// Where a gradient row comes from: one id of one row of one use.
struct Source {
  int32_t id, use;
  int64_t row;
  double divisor;
};

// Unique ids ascending; every sum runs over uses in order and rows in order. Threads share the unique rows.
template <class T>
void sparse_grad(const Call& c) {
  const int uses = static_cast<int>(c.integer(0));
  const Tensor &rows = c.output(0), &grad = c.output(1), &count = c.output(2);
  const int64_t w = grad.cols();
  std::vector<Source> sources;
  sources.reserve(static_cast<size_t>(rows.size()));
  for (int u = 0; u < uses; ++u) {
    const Tensor &ids = c.input(3 * u), &offsets = c.input(3 * u + 1), &dy = c.input(3 * u + 2);
    for (int64_t r = 0; r < dy.rows(); ++r) {
      const IdRange range = ids_of(offsets, r);
      const double n = c.integer(2 + 2 * u) == 2 ? static_cast<double>(present_ids(ids.i32(), range)) : 1;
      for (int64_t i = range.from; i < range.to; ++i)
        if (ids.i32()[i] >= 0) sources.push_back({ids.i32()[i], u, r, n});
    }
  }
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) { return a.id < b.id; });
  std::vector<int64_t> starts;
  for (size_t i = 0; i < sources.size(); ++i)
    if (i == 0 || sources[i].id != sources[i - 1].id) starts.push_back(static_cast<int64_t>(i));
  count.i32()[0] = static_cast<int32_t>(starts.size());
  starts.push_back(static_cast<int64_t>(sources.size()));
  for_rows(c, static_cast<int64_t>(starts.size()) - 1, [&](int64_t s) {
    rows.i32()[s] = sources[starts[s]].id;
    T* out = ptr<T>(grad) + s * w;
    std::fill(out, out + w, T(0));
    for (int64_t i = starts[s]; i < starts[s + 1]; ++i) {
      const Source& from = sources[i];
      const Tensor& dy = c.input(3 * from.use + 2);
      const T* g = ptr<T>(dy) + from.row * dy.cols() + c.integer(1 + 2 * from.use);
      for (int64_t j = 0; j < w; ++j) out[j] += g[j] / static_cast<T>(from.divisor);
    }
  });
}

template <class T>
void time_bucket(const Call& c) {
  const double *event = c.input(0).f64(), *request = c.input(1).f64(), *boundaries = c.input(3).f64();
  const int32_t* offsets = c.input(2).i32();
  const int64_t n = c.input(3).rows();
  for_rows(c, c.input(1).rows(), [&](int64_t r) {
    for (int64_t e = offsets[r]; e < offsets[r + 1]; ++e) {
      const double gap = std::max(0.0, request[r] - event[e]);
      c.output(0).i32()[e] = static_cast<int32_t>(std::upper_bound(boundaries, boundaries + n, gap) - boundaries);
    }
  });
}

// Calls body(i, id) for every gradient row unless the scale says that the step is to be left out.
template <class T, class Body>
void for_unique(const Call& c, Body&& body) {
  if (!std::isfinite(static_cast<double>(ptr<T>(c.input(4))[0]))) return;
  for_rows(c, c.input(2).i32()[0], [&](int64_t i) { body(i, static_cast<int64_t>(c.input(0).i32()[i])); });
}

template <class T>
void rowwise_adagrad(const Call& c) {
  const Tensor &grad = c.input(1), &table = c.output(0), &state = c.output(1);
  const int64_t w = grad.cols();
  const T lr = ptr<T>(c.input(3))[2], scale = ptr<T>(c.input(4))[0], eps = static_cast<T>(c.number(0));
  for_unique<T>(c, [&](int64_t i, int64_t id) {
    const T* g = ptr<T>(grad) + i * w;
    T sum = 0;
    for (int64_t j = 0; j < w; ++j) sum += (g[j] * scale) * (g[j] * scale);
    T& s = ptr<T>(state)[id];
    s += sum / static_cast<T>(w);
    const T rate = lr / (std::sqrt(s) + eps);
    for (int64_t j = 0; j < w; ++j) ptr<T>(table)[id * w + j] -= rate * (g[j] * scale);
  });
}

template <class T>
void sparse_adagrad(const Call& c) {
  const Tensor &grad = c.input(1), &table = c.output(0), &state = c.output(1);
  const int64_t w = grad.cols();
  const T lr = ptr<T>(c.input(3))[2], scale = ptr<T>(c.input(4))[0], eps = static_cast<T>(c.number(0));
  for_unique<T>(c, [&](int64_t i, int64_t id) {
    for (int64_t j = 0; j < w; ++j) {
      const T g = ptr<T>(grad)[i * w + j] * scale;
      T& s = ptr<T>(state)[id * w + j];
      s += g * g;
      ptr<T>(table)[id * w + j] -= lr * g / (std::sqrt(s) + eps);
    }
  });
}

template <class T>
void sparse_adam(const Call& c) {
  const Tensor &grad = c.input(1), &table = c.output(0), &m = c.output(1), &v = c.output(2), &steps = c.output(3);
  const int64_t w = grad.cols();
  const T lr = ptr<T>(c.input(3))[2], scale = ptr<T>(c.input(4))[0];
  const double beta1 = c.number(0), beta2 = c.number(1);
  const T b1 = static_cast<T>(beta1), b2 = static_cast<T>(beta2), eps = static_cast<T>(c.number(2));
  for_unique<T>(c, [&](int64_t i, int64_t id) {
    const int32_t step = ++steps.i32()[id];
    const T c1 = static_cast<T>(1 / (1 - std::pow(beta1, step))), c2 = static_cast<T>(1 / (1 - std::pow(beta2, step)));
    for (int64_t j = 0; j < w; ++j) {
      const T g = ptr<T>(grad)[i * w + j] * scale;
      T &mi = ptr<T>(m)[id * w + j], &vi = ptr<T>(v)[id * w + j];
      mi = b1 * mi + (1 - b1) * g;
      vi = b2 * vi + (1 - b2) * g * g;
      ptr<T>(table)[id * w + j] -= lr * (mi * c1) / (std::sqrt(vi * c2) + eps);
    }
  });
}

}  // namespace longer::plain
