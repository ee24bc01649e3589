// swiglu and swiglu_dx (kernels/swiglu.h).
#include "kernels/swiglu.h"

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Forward {
  Values a, y;
  int hidden;
  bool vector;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    team.packs(hidden, [&](int c, int count) {
      float left[kPack], right[kPack];
      load_pack(left, a, 2 * row * hidden + c, count, vector);
      load_pack(right, a, (2 * row + 1) * hidden + c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) left[i] = activate(Activation::silu, left[i]) * right[i];
      store_pack(y, row * hidden + c, left, count, vector);
    });
  }
};

struct Backward {
  Values a, dy, da;
  int hidden;
  bool vector;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    team.packs(hidden, [&](int c, int count) {
      float left[kPack], right[kPack], d[kPack];
      load_pack(left, a, 2 * row * hidden + c, count, vector);
      load_pack(right, a, (2 * row + 1) * hidden + c, count, vector);
      load_pack(d, dy, row * hidden + c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float gated = d[i] * right[i] * activation_slope(Activation::silu, left[i]);
        right[i] = d[i] * activate(Activation::silu, left[i]);
        left[i] = gated;
      }
      store_pack(da, 2 * row * hidden + c, left, count, vector);
      store_pack(da, (2 * row + 1) * hidden + c, right, count, vector);
    });
  }
};

}  // namespace

void swiglu(const Call& call, const Queue& queue) {
  const SwigluArgs s = swiglu_args(call);
  const Values a = values("swiglu", s.a), y = values("swiglu", s.y);
  each_row(queue, "swiglu", s.rows, s.hidden,
           Forward{a, y, narrow("swiglu", s.hidden), packs_aligned({a, y}, s.hidden)});
}

void swiglu_dx(const Call& call, const Queue& queue) {
  const SwigluArgs s = swiglu_dx_args(call);
  const Values a = values("swiglu_dx", s.a), dy = values("swiglu_dx", s.dy), da = values("swiglu_dx", s.da);
  each_row(queue, "swiglu_dx", s.rows, s.hidden,
           Backward{a, dy, da, narrow("swiglu_dx", s.hidden),
                    packs_aligned({a, dy, da}, s.hidden)});
}

}  // namespace longer::cuda
