// The activations of kernels/activation.h and their slopes.
#pragma once
#include <type_traits>

#include "kernels/activation_kind.h"
#include "kernels/cuda/launch.cuh"

namespace longer::cuda {

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

__device__ __forceinline__ float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::none: return x;
    case Activation::gelu: return 0.5f * x * (1.f + erff(x * 0.70710678f));
    case Activation::relu: return x > 0 ? x : 0.f;
    case Activation::silu: return x * sigmoid(x);
    case Activation::tanh: return tanhf(x);
    case Activation::sigmoid: return sigmoid(x);
  }
  return x;
}

__device__ __forceinline__ float activation_slope(Activation kind, float x) {
  switch (kind) {
    case Activation::none: return 1.f;
    case Activation::gelu: return 0.5f * (1.f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case Activation::relu: return x > 0 ? 1.f : 0.f;
    case Activation::silu: {
      const float s = sigmoid(x);
      return s * (1.f + x * (1.f - s));
    }
    case Activation::tanh: {
      const float t = tanhf(x);
      return 1.f - t * t;
    }
    case Activation::sigmoid: {
      const float s = sigmoid(x);
      return s * (1.f - s);
    }
  }
  return 1.f;
}

// run(kind as a constant): one branch for many numbers.
template <class Run>
__device__ __forceinline__ void with_activation(Activation kind, Run&& run) {
  switch (kind) {
    case Activation::none: return run(std::integral_constant<Activation, Activation::none>());
    case Activation::gelu: return run(std::integral_constant<Activation, Activation::gelu>());
    case Activation::relu: return run(std::integral_constant<Activation, Activation::relu>());
    case Activation::silu: return run(std::integral_constant<Activation, Activation::silu>());
    case Activation::tanh: return run(std::integral_constant<Activation, Activation::tanh>());
    case Activation::sigmoid: return run(std::integral_constant<Activation, Activation::sigmoid>());
  }
}

}  // namespace longer::cuda
