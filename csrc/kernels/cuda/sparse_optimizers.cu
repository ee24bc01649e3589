// rowwise_adagrad, sparse_adagrad, sparse_adam (kernels/sparse_optimizers.h): a team of threads a row of the gradient.
#include "kernels/sparse_optimizers.h"

#include <cmath>

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Step {
  const int32_t *rows, *count;
  const float *grad, *hyper, *scale;
  float *table, *first, *second;
  int32_t* steps;
  int width;
  float a, b, a_rest, b_rest, a_log, b_log, eps;
  bool vector;
  int64_t table_rows;
  int32_t *fault, code;

  // Whether gradient row i is applied.
  __device__ bool applies(int64_t i) const {
    if (i >= *count || !(fabsf(*scale) < INFINITY)) return false;
    if (rows[i] < 0 || rows[i] >= table_rows) return report(fault, code), false;
    return true;
  }
  __device__ void load_gradient(float (&g)[kPack], int64_t i, int c, int here) const {
    const float by = *scale;
    load_pack(g, grad + i * width + c, here, vector);
#pragma unroll
    for (int k = 0; k < kPack; ++k) g[k] *= by;
  }
};

struct RowwiseAdagrad : Step {
  __device__ void operator()(int64_t i, const RowTeam& team) const {
    if (!applies(i)) return;
    float squares = 0;
    team.packs(width, [&](int c, int here) {
      float g[kPack];
      load_gradient(g, i, c, here);
#pragma unroll
      for (int k = 0; k < kPack; ++k) squares += g[k] * g[k];
    });
    squares = team.sum(squares);  // also: everyone has read the state below only after the leader wrote it
    const int64_t id = rows[i];
    float state = 0;
    if (team.lane == 0) first[id] = state = first[id] + squares / static_cast<float>(width);
    state = team.sum(state);  // the leader's
    const float rate = hyper[2] / (sqrtf(state) + eps);
    team.packs(width, [&](int c, int here) {
      float g[kPack], row[kPack];
      load_gradient(g, i, c, here);
      load_own_pack(row, table + id * width + c, here, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) row[k] -= rate * g[k];
      store_pack(table + id * width + c, row, here, vector);
    });
  }
};

struct SparseAdagrad : Step {
  __device__ void operator()(int64_t i, const RowTeam& team) const {
    if (!applies(i)) return;
    const float rate = hyper[2];
    team.packs(width, [&](int c, int here) {
      const int64_t at = static_cast<int64_t>(rows[i]) * width + c;
      float g[kPack], row[kPack], state[kPack];
      load_gradient(g, i, c, here);
      load_own_pack(row, table + at, here, vector);
      load_own_pack(state, first + at, here, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        state[k] += g[k] * g[k];
        row[k] -= rate * g[k] / (sqrtf(state[k]) + eps);
      }
      store_pack(table + at, row, here, vector);
      store_pack(first + at, state, here, vector);
    });
  }
};

struct SparseAdam : Step {
  __device__ void operator()(int64_t i, const RowTeam& team) const {
    if (!applies(i)) return;
    const int64_t id = rows[i];
    float number = 0;
    if (team.lane == 0) {
      const int32_t step = steps[id] + 1;
      steps[id] = step;
      number = static_cast<float>(step);
    }
    number = team.sum(number);  // the leader's
    const float rate = hyper[2], up1 = 1.f / -expm1f(number * a_log), up2 = 1.f / -expm1f(number * b_log);
    team.packs(width, [&](int c, int here) {
      const int64_t at = id * width + c;
      float g[kPack], row[kPack], m[kPack], v[kPack];
      load_gradient(g, i, c, here);
      load_own_pack(row, table + at, here, vector);
      load_own_pack(m, first + at, here, vector);
      load_own_pack(v, second + at, here, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        m[k] = a * m[k] + a_rest * g[k];
        v[k] = b * v[k] + b_rest * g[k] * g[k];
        row[k] -= rate * (m[k] * up1) / (sqrtf(v[k] * up2) + eps);
      }
      store_pack(table + at, row, here, vector);
      store_pack(first + at, m, here, vector);
      store_pack(second + at, v, here, vector);
    });
  }
};

template <class Op>
void step(const char* name, const Call& call, const Queue& queue, int outs, int attributes, double beta1, double beta2, double eps) {
  const SparseStepArgs a = sparse_step_args(name, call, outs, attributes);
  Op op{};
  op.rows = vector_of<int32_t>(name, a.rows), op.count = vector_of<int32_t>(name, a.count);
  op.grad = vector_of<float>(name, a.grad), op.hyper = vector_of<float>(name, a.hyper), op.scale = vector_of<float>(name, a.scale);
  op.table = vector_of<float>(name, a.table), op.first = vector_of<float>(name, a.state), op.second = vector_of<float>(name, a.second);
  op.steps = vector_of<int32_t>(name, a.steps);
  op.width = narrow(name, a.width);
  op.a = static_cast<float>(beta1), op.b = static_cast<float>(beta2);
  op.a_rest = static_cast<float>(1 - beta1), op.b_rest = static_cast<float>(1 - beta2);
  op.a_log = static_cast<float>(std::log(beta1)), op.b_log = static_cast<float>(std::log(beta2));
  op.eps = static_cast<float>(eps);
  op.table_rows = a.table.rows();
  op.fault = queue.fault, op.code = queue.code;
  op.vector = packs_aligned({op.grad, op.table, op.first, op.second}, a.width);
  each_row(queue, name, a.most, a.width, op);
}

}  // namespace

void rowwise_adagrad(const Call& call, const Queue& queue) { step<RowwiseAdagrad>("rowwise_adagrad", call, queue, 2, 1, 1, 1, call.number(0)); }
void sparse_adagrad(const Call& call, const Queue& queue) { step<SparseAdagrad>("sparse_adagrad", call, queue, 2, 1, 1, 1, call.number(0)); }
void sparse_adam(const Call& call, const Queue& queue) {
  step<SparseAdam>("sparse_adam", call, queue, 4, 3, call.number(0), call.number(1), call.number(2));
}

}  // namespace longer::cuda
