#pragma once
#include <cmath>

#include "kernels/activation.h"

namespace longer::reference {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

inline double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::none: return x;
    case Activation::gelu: return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::silu: return x * sigmoid(x);
    case Activation::tanh: return std::tanh(x);
    case Activation::sigmoid: return sigmoid(x);
  }
  return x;
}

inline double activation_slope(Activation kind, double x) {
  switch (kind) {
    case Activation::none: return 1;
    case Activation::gelu: {
      const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846);
      return 0.5 * std::erfc(-x * std::sqrt(0.5)) + x * density;
    }
    case Activation::relu: return x > 0 ? 1 : 0;
    case Activation::silu: return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
    case Activation::tanh: return 1 - std::tanh(x) * std::tanh(x);
    case Activation::sigmoid: return sigmoid(x) * (1 - sigmoid(x));
  }
  return 1;
}

}  // namespace longer::reference
