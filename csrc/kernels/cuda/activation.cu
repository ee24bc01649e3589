// activation and activation_dx (kernels/activation.h).
#include "kernels/activation.h"

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Forward {
  Values x, y;
  Activation kind;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack];
    load_pack(v, x, at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = activate(kind, v[i]);
    store_pack(y, at, v, count, vector);
  }
};

struct Backward {
  Values x, dy, dx;
  Activation kind;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack], g[kPack];
    load_pack(v, x, at, count, vector);
    load_pack(g, dy, at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] *= activation_slope(kind, v[i]);
    store_pack(dx, at, g, count, vector);
  }
};

}  // namespace

void activation(const Call& call, const Queue& queue) {
  const ActivationArgs a = activation_args(call);
  const Values x = values("activation", a.x), y = values("activation", a.y);
  pointwise(queue, "activation", a.x.size(), Forward{x, y, a.kind, packs_aligned({x, y}, kPack)});
}

void activation_dx(const Call& call, const Queue& queue) {
  const ActivationDxArgs a = activation_dx_args(call);
  const Values x = values("activation_dx", a.x), dy = values("activation_dx", a.dy), dx = values("activation_dx", a.dx);
  pointwise(queue, "activation_dx", a.x.size(),
            Backward{x, dy, dx, a.kind, packs_aligned({x, dy, dx}, kPack)});
}

}  // namespace longer::cuda
