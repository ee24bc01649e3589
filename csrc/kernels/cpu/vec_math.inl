// Functions of vectors, on top of a vec_<isa>.h: the same formula on every instruction set.

#include "kernels/activation_kind.h"

namespace {

using longer::Activation;

// 2^t for t in [-126, 0]; NaN stays NaN. Within 2 ulp.
inline Vec exp2_within(Vec t) {
  const Vec n = round_even(t), f = sub(t, n);
  Vec y = fma(set(1.535336188319500e-4f), f, set(1.339887440266574e-3f));
  y = fma(y, f, set(9.618437357674640e-3f));
  y = fma(y, f, set(5.550332471162809e-2f));
  y = fma(y, f, set(2.402264791363012e-1f));
  y = fma(y, f, set(6.931472028550421e-1f));
  y = fma(y, f, set(1.0f));
  return times_pow2(y, n);
}

// The same for all t <= 0; 0 below 2^-126.
inline Vec exp2_negative(Vec t) {
  const Vec lowest = set(-126.0f);
  return if_less(t, lowest, set(0.0f), exp2_within(vmax(lowest, t)));
}

// 0 below -87.3, 2^127 above 88; within 2 ulp between.
inline Vec exp_vec(Vec t) {
  const Vec lowest = set(-87.3f);
  const Vec x = vmax(lowest, vmin(set(88.0f), t));
  const Vec n = round_even(mul(x, set(1.44269504f)));
  Vec f = fma(n, set(-0.693359375f), x);
  f = fma(n, set(2.12194440e-4f), f);
  Vec y = fma(set(1.9875691500e-4f), f, set(1.3981999507e-3f));
  y = fma(y, f, set(8.3334519073e-3f));
  y = fma(y, f, set(4.1665795894e-2f));
  y = fma(y, f, set(1.6666665459e-1f));
  y = fma(y, f, set(5.0000001201e-1f));
  y = add(fma(y, mul(f, f), f), set(1.0f));
  return if_less(t, lowest, set(0.0f), times_pow2(y, n));
}

inline Vec sigmoid_vec(Vec x) { return divide(set(1.0f), add(set(1.0f), exp_vec(sub(set(0.0f), x)))); }

// GELU is taken for that of -kGeluEnd below it: nothing is left of either.
constexpr float kGeluEnd = 11.0f;

// The share of a normal distribution beyond t, for t in [0, kGeluEnd]. The polynomial (minimax on [0, 6]) gives its binary
// logarithm, so that the tail keeps a relative error of about 1e-6.
inline Vec normal_tail(Vec t) {
  Vec r = fma(set(-1.929075566e-08f), t, set(6.138085951e-07f));
  r = fma(r, t, set(-8.340755812e-06f));
  r = fma(r, t, set(6.120406761e-05f));
  r = fma(r, t, set(-2.275515726e-04f));
  r = fma(r, t, set(-1.065730394e-04f));
  r = fma(r, t, set(7.074169349e-03f));
  r = fma(r, t, set(-5.252419040e-02f));
  r = fma(r, t, set(-4.591952264e-01f));
  r = fma(r, t, set(-1.151106834e+00f));
  return exp2_within(fma(r, t, set(-1.0f)));
}

inline Vec gelu(Vec x) {
  const Vec t = vmin(set(kGeluEnd), vabs(x));
  return sub(vmax(set(0.0f), x), mul(t, normal_tail(t)));
}

inline Vec gelu_slope(Vec x) {
  const Vec t = vmin(set(kGeluEnd), vabs(x));
  const Vec density = exp2_within(fma(mul(set(-0.7213475204f), t), t, set(-1.3257480647f)));
  const Vec left = sub(normal_tail(t), mul(t, density));  // at -t
  return if_less(x, set(0.0f), left, sub(set(1.0f), left));
}

inline Vec tanh_vec(Vec x) {
  const Vec t = vabs(x), s = mul(x, x);
  Vec p = fma(set(-5.70498872745e-3f), s, set(2.06390887954e-2f));
  p = fma(p, s, set(-5.37397155531e-2f));
  p = fma(p, s, set(1.33314422036e-1f));
  p = fma(p, s, set(-3.33332819422e-1f));
  const Vec near = fma(mul(p, s), x, x);
  const Vec far = sub(set(1.0f), divide(set(2.0f), add(exp_vec(add(t, t)), set(1.0f))));
  return if_less(t, set(0.625f), near, if_less(x, set(0.0f), sub(set(0.0f), far), far));
}

template <Activation kind>
inline Vec activate(Vec x) {
  switch (kind) {
    case Activation::none: return x;
    case Activation::gelu: return gelu(x);
    case Activation::relu: return vmax(set(0.0f), x);
    case Activation::silu: return mul(x, sigmoid_vec(x));
    case Activation::tanh: return tanh_vec(x);
    case Activation::sigmoid: return sigmoid_vec(x);
  }
  return x;
}

template <Activation kind>
inline Vec activation_slope(Vec x) {
  const Vec one = set(1.0f);
  switch (kind) {
    case Activation::none: return one;
    case Activation::gelu: return gelu_slope(x);
    case Activation::relu: return if_less(set(0.0f), x, one, set(0.0f));
    case Activation::silu: {
      const Vec s = sigmoid_vec(x);
      return mul(s, fma(x, sub(one, s), one));
    }
    case Activation::tanh: {
      const Vec t = tanh_vec(x);
      return fma(sub(set(0.0f), t), t, one);
    }
    case Activation::sigmoid: {
      const Vec s = sigmoid_vec(x);
      return mul(s, sub(one, s));
    }
  }
  return one;
}

// Calls f with the activation as a compile-time constant.
template <Activation value>
struct Kind {
  static constexpr Activation kind = value;
};

template <class F>
inline void with_activation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::none: return f(Kind<Activation::none>());
    case Activation::gelu: return f(Kind<Activation::gelu>());
    case Activation::relu: return f(Kind<Activation::relu>());
    case Activation::silu: return f(Kind<Activation::silu>());
    case Activation::tanh: return f(Kind<Activation::tanh>());
    case Activation::sigmoid: return f(Kind<Activation::sigmoid>());
  }
}

}  // namespace
