#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "kernels/embed.h"
#include "kernels/embedding_kernels.h"
#include "kernels/sparse_optimizers.h"

namespace longer::reference {

namespace {

// Calls body(id, share) for the ids of a row that are there.
template <class Body>
void each_id(const IdRows& f, int64_t r, Body&& body) {
  const int32_t* ids = f.ids.i32();
  const int64_t from = f.offsets.present() ? f.offsets.i32()[r] : r, to = f.offsets.present() ? f.offsets.i32()[r + 1] : r + 1;
  int64_t there = 0;
  for (int64_t i = from; i < to; ++i) there += ids[i] >= 0;
  for (int64_t i = from; i < to; ++i)
    if (ids[i] >= 0) body(int64_t{ids[i]}, f.mean ? 1.0 / static_cast<double>(there) : 1.0);
}

// Calls body(i, id) for every gradient row unless the step is to be left out.
template <class Body>
void each_row(const SparseStepArgs& a, Body&& body) {
  if (!std::isfinite(a.scale.f64()[0])) return;
  for (int64_t i = 0; i < a.count.i32()[0]; ++i) body(i, int64_t{a.rows.i32()[i]});
}

}  // namespace

void embed(const Call& call) {
  const EmbedArgs a = embed_args(call);
  std::fill(a.y.f64(), a.y.f64() + a.y.size(), 0.0);
  for (int64_t r = 0; r < a.rows; ++r)
    for (int f = 0; f < a.count; ++f) {
      const int64_t width = a.tables[f].cols();
      each_id(a.fields[f], r, [&](int64_t id, double share) {
        if (id >= a.tables[f].rows()) throw std::runtime_error("embed: an id is past its table");
        for (int64_t j = 0; j < width; ++j) a.y.f64()[r * a.width + a.fields[f].column + j] += share * a.tables[f].f64()[id * width + j];
      });
    }
}

void sparse_grad(const Call& call) {
  const SparseGradArgs a = sparse_grad_args(call);
  std::map<int64_t, std::vector<double>> sums;
  for (int u = 0; u < a.count; ++u)
    for (int64_t r = 0; r < a.dy[u].rows(); ++r)
      each_id(a.uses[u], r, [&](int64_t id, double share) {
        std::vector<double>& sum = sums[id];
        sum.resize(static_cast<size_t>(a.width), 0.0);
        for (int64_t j = 0; j < a.width; ++j)
          sum[static_cast<size_t>(j)] += share * a.dy[u].f64()[r * a.dy[u].cols() + a.uses[u].column + j];
      });
  int64_t i = 0;
  for (const auto& [id, sum] : sums) {
    a.rows.i32()[i] = static_cast<int32_t>(id);
    std::copy(sum.begin(), sum.end(), a.grad.f64() + i++ * a.width);
  }
  a.unique.i32()[0] = static_cast<int32_t>(i);
}

void time_bucket(const Call& call) {
  const TimeBucketArgs a = time_bucket_args(call);
  for (int64_t r = 0; r < a.requests; ++r)
    for (int64_t e = a.offsets[r]; e < a.offsets[r + 1]; ++e)
      a.ids[e] = static_cast<int32_t>(std::upper_bound(a.boundaries, a.boundaries + a.count, std::max(0.0, a.request[r] - a.event[e])) -
                                      a.boundaries);
}

void rowwise_adagrad(const Call& call) {
  const SparseStepArgs a = sparse_step_args("rowwise_adagrad", call, 2, 1);
  const double rate = a.hyper.f64()[2], scale = a.scale.f64()[0], eps = call.number(0);
  each_row(a, [&](int64_t i, int64_t id) {
    const double* g = a.grad.f64() + i * a.width;
    double squares = 0;
    for (int64_t j = 0; j < a.width; ++j) squares += g[j] * scale * g[j] * scale;
    double& state = a.state.f64()[id];
    state += squares / static_cast<double>(a.width);
    for (int64_t j = 0; j < a.width; ++j) a.table.f64()[id * a.width + j] -= rate / (std::sqrt(state) + eps) * g[j] * scale;
  });
}

void sparse_adagrad(const Call& call) {
  const SparseStepArgs a = sparse_step_args("sparse_adagrad", call, 2, 1);
  const double rate = a.hyper.f64()[2], scale = a.scale.f64()[0], eps = call.number(0);
  each_row(a, [&](int64_t i, int64_t id) {
    for (int64_t j = 0; j < a.width; ++j) {
      const double g = a.grad.f64()[i * a.width + j] * scale;
      double& state = a.state.f64()[id * a.width + j];
      state += g * g;
      a.table.f64()[id * a.width + j] -= rate * g / (std::sqrt(state) + eps);
    }
  });
}

void sparse_adam(const Call& call) {
  const SparseStepArgs a = sparse_step_args("sparse_adam", call, 4, 3);
  const double rate = a.hyper.f64()[2], scale = a.scale.f64()[0], b1 = call.number(0), b2 = call.number(1), eps = call.number(2);
  each_row(a, [&](int64_t i, int64_t id) {
    const int32_t step = ++a.steps.i32()[id];
    const double c1 = 1 / (1 - std::pow(b1, step)), c2 = 1 / (1 - std::pow(b2, step));
    for (int64_t j = 0; j < a.width; ++j) {
      const int64_t at = id * a.width + j;
      const double g = a.grad.f64()[i * a.width + j] * scale;
      double &m = a.state.f64()[at], &v = a.second.f64()[at];
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      a.table.f64()[at] -= rate * (m * c1) / (std::sqrt(v * c2) + eps);
    }
  });
}

}  // namespace longer::reference
