// What follows the products of linear, linear_dx and linear_dw, in the same kernel: of an element (gemm.cuh), or of 8 neighbours
// at a multiple of 16 bytes (wgmma_gemm.cuh), for which fetch() begins to read what they need.
#pragma once
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/values.cuh"
#include "kernels/linear.h"

namespace longer::cuda {

struct Forward {
  const float* bias;
  Values residual, pre, y;
  int columns;
  Activation activation;
  __device__ void operator()(int64_t row, int column, float value) const {
    const int64_t at = row * columns + column;
    if (bias) value += bias[column];
    if (pre.data) put(pre, at, value);
    value = activate(activation, value);
    if (residual.data) value += get(residual, at);
    put(y, at, value);
  }

  using Ahead = RawPack;  // of the residual
  __device__ __forceinline__ Ahead fetch(int64_t row, int column) const { return residual.data ? load_raw(residual, row * columns + column) : RawPack{}; }
  __device__ __forceinline__ void pack(int64_t row, int column, int64_t, float (&v)[kPack], const Ahead& ahead) const {
    const int64_t at = row * columns + column;
    float other[kPack];
    if (bias) {
      load_pack(other, bias + column, kPack, true);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += other[i];
    }
    if (pre.data) store_pack(pre, at, v, kPack, true);
    with_activation(activation, [&](auto kind) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] = activate(decltype(kind)::value, v[i]);
    });
    if (residual.data) {
      numbers_of(other, residual, ahead);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += other[i];
    }
    store_pack(y, at, v, kPack, true);
  }
};

struct Backward {
  Values pre, add, dx;
  int columns;
  Activation activation;
  __device__ void operator()(int64_t row, int column, float value) const {
    const int64_t at = row * columns + column;
    if (pre.data) value *= activation_slope(activation, get(pre, at));
    if (add.data) value += get(add, at);
    put(dx, at, value);
  }

  struct Ahead {
    RawPack pre, add;
  };
  __device__ __forceinline__ Ahead fetch(int64_t row, int column) const {
    const int64_t at = row * columns + column;
    return {pre.data ? load_raw(pre, at) : RawPack{}, add.data ? load_raw(add, at) : RawPack{}};
  }
  __device__ __forceinline__ void pack(int64_t row, int column, int64_t, float (&v)[kPack], const Ahead& ahead) const {
    float other[kPack];
    if (pre.data) {
      numbers_of(other, pre, ahead.pre);
      with_activation(activation, [&](auto kind) {
#pragma unroll
        for (int i = 0; i < kPack; ++i) v[i] *= activation_slope(decltype(kind)::value, other[i]);
      });
    }
    if (add.data) {
      numbers_of(other, add, ahead.add);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += other[i];
    }
    store_pack(dx, row * columns + column, v, kPack, true);
  }
};

// The part of dw by one chunk of rows.
struct Partial {
  float* to;  // [chunks][ins * outs]
  int64_t size;
  int outs;
  __device__ void operator()(int64_t row, int column, float value) const { to[blockIdx.z * size + row * outs + column] = value; }

  struct Ahead {};
  __device__ __forceinline__ Ahead fetch(int64_t, int) const { return {}; }
  __device__ __forceinline__ void pack(int64_t row, int column, int64_t part, const float (&v)[kPack], const Ahead&) const {
    store_pack(to + part * size + row * outs + column, v, kPack, true);
  }
};

inline Forward forward_of(const LinearArgs& a, int columns) {
  return {vector_of<float>("linear", a.bias), values("linear", a.residual), values("linear", a.pre), values("linear", a.y), columns, a.activation};
}
inline Backward backward_of(const LinearDxArgs& a, int columns) {
  return {values("linear_dx", a.pre), values("linear_dx", a.add), values("linear_dx", a.dx), columns, a.activation};
}

}  // namespace longer::cuda
