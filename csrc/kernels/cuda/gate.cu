// gate and gate_dx (kernels/gate.h).
#include "kernels/gate.h"

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Forward {
  Values x, g, y;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack], gates[kPack];
    load_pack(v, x, at, count, vector);
    load_pack(gates, g, at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] *= sigmoid(gates[i]);
    store_pack(y, at, v, count, vector);
  }
};

struct Backward {
  Values x, g, dy, dx, dg;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack], gates[kPack], d[kPack];
    load_pack(v, x, at, count, vector);
    load_pack(gates, g, at, count, vector);
    load_pack(d, dy, at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float s = sigmoid(gates[i]);
      gates[i] = d[i] * v[i] * s * (1.f - s);
      d[i] *= s;
    }
    store_pack(dx, at, d, count, vector);
    store_pack(dg, at, gates, count, vector);
  }
};

}  // namespace

void gate(const Call& call, const Queue& queue) {
  const GateArgs a = gate_args(call);
  const Values x = values("gate", a.x), g = values("gate", a.g), y = values("gate", a.y);
  pointwise(queue, "gate", a.x.size(), Forward{x, g, y, packs_aligned({x, g, y}, kPack)});
}

void gate_dx(const Call& call, const Queue& queue) {
  const GateArgs a = gate_dx_args(call);
  Backward op{values("gate_dx", a.x), values("gate_dx", a.g), values("gate_dx", a.dy), values("gate_dx", a.dx), values("gate_dx", a.dg), false};
  op.vector = packs_aligned({op.x, op.g, op.dy, op.dx, op.dg}, kPack);
  pointwise(queue, "gate_dx", a.x.size(), op);
}

}  // namespace longer::cuda
