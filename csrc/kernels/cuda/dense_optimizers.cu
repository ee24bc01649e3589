// adamw, rmsprop, ema, accumulate (kernels/dense_optimizers.h), each one pass over flat buffers.
#include "kernels/dense_optimizers.h"

#include <cmath>

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

__device__ __forceinline__ bool finite(float x) { return fabsf(x) < INFINITY; }

struct Step {
  const float *grad, *hyper, *scale, *decay;
  float *param, *first, *second;
  float a, b, a_rest, b_rest, eps;  // a_rest = 1 - a, taken in double
  float a_log, b_log;               // of adamw: natural logarithms, so that 1 - a^step does not cancel
  bool vector;

  __device__ void load(int64_t at, int count, float (&g)[kPack], float (&p)[kPack], float (&m)[kPack], float (&v)[kPack], float (&d)[kPack]) const {
    load_pack(g, grad + at, count, vector);
    load_own_pack(p, param + at, count, vector);
    load_own_pack(m, first + at, count, vector);
    load_own_pack(v, second + at, count, vector);
    if (decay) load_pack(d, decay + at, count, vector);
  }
};

struct Adamw : Step {
  __device__ void operator()(int64_t at, int count) const {
    const float by = *scale, rate = hyper[0], shrink = hyper[1], step = hyper[3];
    if (!finite(by)) return;
    const float up1 = 1.f / -expm1f(step * a_log), up2 = 1.f / -expm1f(step * b_log);
    float g[kPack], p[kPack], m[kPack], v[kPack], d[kPack] = {};
    load(at, count, g, p, m, v, d);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      g[i] *= by;
      m[i] = a * m[i] + a_rest * g[i];
      v[i] = b * v[i] + b_rest * g[i] * g[i];
      p[i] -= rate * (m[i] * up1 / (sqrtf(v[i] * up2) + eps) + shrink * d[i] * p[i]);
    }
    store_pack(param + at, p, count, vector);
    store_pack(first + at, m, count, vector);
    store_pack(second + at, v, count, vector);
  }
};

struct Rmsprop : Step {  // a: alpha, b: momentum
  __device__ void operator()(int64_t at, int count) const {
    const float by = *scale, rate = hyper[0], shrink = hyper[0] * hyper[1];
    if (!finite(by)) return;
    float g[kPack], p[kPack], v[kPack], velocity[kPack], d[kPack] = {};
    load(at, count, g, p, v, velocity, d);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      g[i] *= by;
      v[i] = a * v[i] + a_rest * g[i] * g[i];
      velocity[i] = b * velocity[i] + rate * g[i] / sqrtf(v[i] + eps);
      p[i] -= velocity[i] + shrink * d[i] * p[i];
    }
    store_pack(param + at, p, count, vector);
    store_pack(first + at, v, count, vector);
    store_pack(second + at, velocity, count, vector);
  }
};

struct Accumulate {
  Values x;
  float* y;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack], sum[kPack];
    load_pack(v, x, at, count, vector);
    load_own_pack(sum, y + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
    store_pack(y + at, sum, count, vector);
  }
};

struct Ema {
  const float *param, *hyper, *scale;
  float* average;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    const float keep = hyper[4];
    if (!finite(*scale)) return;
    float v[kPack], mean[kPack];
    load_pack(v, param + at, count, vector);
    load_own_pack(mean, average + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) mean[i] = keep * mean[i] + (1.f - keep) * v[i];
    store_pack(average + at, mean, count, vector);
  }
};

template <class Op>
void step(const char* name, const Call& call, const Queue& queue, double first, double second, double eps) {
  const DenseStepArgs a = dense_step_args(name, call);
  Op op{};
  op.grad = vector_of<float>(name, a.grad);
  op.hyper = vector_of<float>(name, a.hyper);
  op.scale = vector_of<float>(name, a.scale);
  op.decay = vector_of<float>(name, a.decay);
  op.param = vector_of<float>(name, a.param);
  op.first = vector_of<float>(name, a.first);
  op.second = vector_of<float>(name, a.second);
  op.a = static_cast<float>(first), op.b = static_cast<float>(second);
  op.a_rest = static_cast<float>(1 - first), op.b_rest = static_cast<float>(1 - second);
  op.a_log = static_cast<float>(std::log(first)), op.b_log = static_cast<float>(std::log(second));
  op.eps = static_cast<float>(eps);
  op.vector = packs_aligned({op.grad, op.decay, op.param, op.first, op.second}, kPack);
  pointwise(queue, name, a.size, op);
}

}  // namespace

void adamw(const Call& call, const Queue& queue) { step<Adamw>("adamw", call, queue, call.number(0), call.number(1), call.number(2)); }
void rmsprop(const Call& call, const Queue& queue) { step<Rmsprop>("rmsprop", call, queue, call.number(0), call.number(2), call.number(1)); }

void accumulate(const Call& call, const Queue& queue) {
  const RunningArgs a = running_args("accumulate", call);
  const Values x = values("accumulate", a.x);
  float* y = vector_of<float>("accumulate", a.y);
  pointwise(queue, "accumulate", a.size, Accumulate{x, y, packs_aligned(x, kPack) && packs_aligned(y, kPack)});
}

void ema(const Call& call, const Queue& queue) {
  const AverageArgs a = average_args(call);
  const float* param = vector_of<float>("ema", a.param);
  float* average = vector_of<float>("ema", a.average);
  pointwise(queue, "ema", a.size,
            Ema{param, vector_of<float>("ema", a.hyper), vector_of<float>("ema", a.scale), average, packs_aligned(param, kPack) && packs_aligned(average, kPack)});
}

}  // namespace longer::cuda
