// inner_transformer: a whole pre-norm block whose attention stays within groups (group_attention.h), of x [T,d].
//
//   n = norm(x)                                   gamma1, beta1; of one kind and eps with the second norm (norm.h)
//   r = x + attention(n wq + bq, n wk + bk, n wv + bv) wo + bo
//   y = r + gelu(norm(r) w1 + b1) w2 + b2         w1 [d,4d], w2 [4d,d]; + x where the block has an outer shortcut
//
// inner_transformer_dx: dx and the gradients of all parameters, from x, dy and the parameters. The forward pass keeps nothing
// for it: what it needs of that pass it computes again.
//
// x, y, dy and dx are of one type, parameters and their gradients f32. On a device the type is bf16 or f16: what is multiplied
// (norm's results, q, k, v, probabilities, what attention gives, the hidden layer, their gradients and the parameters) is
// rounded to it, sums, residuals (x and r), statistics and softmax are f32, and y and dx are rounded once, when they are stored.
#pragma once
#include "kernels/dense_check.h"
#include "kernels/group_attention.h"

namespace longer {

enum InnerParameter { kGamma1, kBeta1, kWq, kBq, kWk, kBk, kWv, kBv, kWo, kBo, kGamma2, kBeta2, kW1, kB1, kW2, kB2, kInnerParameters };

// Elements of a parameter of a block of this width.
constexpr int64_t inner_parameter_size(int parameter, int64_t width) {
  switch (parameter) {
    case kWq: case kWk: case kWv: case kWo: return width * width;
    case kW1: case kW2: return 4 * width * width;
    case kB1: return 4 * width;
    default: return width;
  }
}

struct InnerTransformerArgs {
  Tensor x, event_offsets, y;                // y of the forward op
  Tensor dy, dx;                             // of the backward op
  Tensor parameter[kInnerParameters];        // beta1 and beta2 are absent for RMS norm
  Tensor gradient[kInnerParameters];         // backward only, with the same absent
  int64_t rows, width, requests, heads, group;
  double scale, eps;
  bool rms, outer;
};

inline InnerTransformerArgs inner_transformer_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "inner_transformer_dx" : "inner_transformer", call);
  const int before = backward ? 3 : 2, ins = before + kInnerParameters, outs = backward ? 1 + kInnerParameters : 1;
  check.counts(ins, ins, 1, outs, 6);
  InnerTransformerArgs a;
  a.x = call.input(0);
  check.require(a.x.rank == 2 && DenseCheck::floating(a.x), "x must be a matrix");
  a.rows = a.x.dim[0], a.width = a.x.dim[1];
  a.event_offsets = call.input(before - 1);
  a.requests = check.offsets(a.event_offsets, "event_offsets must be i32 and not empty");
  a.heads = call.integer(0), a.scale = call.number(1), a.group = call.integer(2), a.rms = call.integer(3) == 1, a.eps = call.number(4), a.outer = call.integer(5) == 1;
  check.require(a.heads > 0 && a.width % a.heads == 0, "the width is not a multiple of the heads");
  check.require(a.group > 0, "K must be positive");
  check.require(call.integer(3) == 0 || call.integer(3) == 1, "unknown kind of norm");
  const auto like_x = [&](const Tensor& t, const char* what) {
    check.matrix(t, a.rows, a.width, what);
    check.require(t.dtype == a.x.dtype, what);
  };
  if (backward) {
    a.dy = call.input(1), a.dx = call.output(0);
    like_x(a.dy, "dy differs from x");
    like_x(a.dx, "dx differs from x");
  } else {
    a.y = call.output(0);
    like_x(a.y, "y differs from x");
  }
  for (int i = 0; i < kInnerParameters; ++i) {
    a.parameter[i] = call.input(before + i);
    if (backward) a.gradient[i] = call.output(1 + i);
    const bool absent = a.rms && (i == kBeta1 || i == kBeta2);
    for (const Tensor* t : {&a.parameter[i], &a.gradient[i]}) {
      if (absent || (t == &a.gradient[i] && !backward)) check.require(!t->present(), "RMS norm has no beta");
      else check.wide(*t, inner_parameter_size(i, a.width), "a parameter does not fit x");
    }
  }
  return a;
}

}  // namespace longer
