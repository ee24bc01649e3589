// linear: pre = x w + b, y = act(pre) + residual.        x [T,i], w [i,o], row-major
// linear_dx: dx = (dy w^T) * act'(pre) + add.            pre absent: factor 1
// linear_dw: dw = x^T dy, db = column sums of dy.
//
// Each matrix is f32, bf16 or, on a device, f16; b, dw and db are f32. What is multiplied follows x (dy in linear_dx):
//   f32   the product is f32, a bf16 w is widened
//   bf16  the product is one of bf16 pairs summed in f32; an f32 w (the master copy) is rounded to bf16, to nearest even
//   f16   the same with f16
// linear_dw multiplies bf16 (f16) pairs where x and dy are both bf16 (f16), else f32. bias, act, residual and add are f32 arithmetic;
// pre, y and dx are rounded once, when they are stored.
//
// In f32 an element of linear or linear_dx is one chain of fused multiply-adds over the reduction index, ascending from
// zero, whatever the number of rows and threads is: a row alone gives the bits of the row in a batch.
#pragma once
#include "kernels/activation.h"

namespace longer {

struct LinearArgs {
  Tensor x, w, bias, residual, y, pre;
  Activation activation;
  int64_t rows, inner, cols;
};

inline LinearArgs linear_args(const Call& call) {
  const DenseCheck check("linear", call);
  check.counts(2, 4, 1, 2, 1);
  LinearArgs a{call.input(0), call.input(1), call.input(2), call.input(3), call.output(0), call.output(1),
               activation_attribute(check, call, 0), 0, 0, 0};
  check.require(a.x.rank == 2 && a.w.rank == 2, "x and w must be matrices");
  a.rows = a.x.dim[0], a.inner = a.x.dim[1], a.cols = a.w.dim[1];
  check.matrix(a.x, a.rows, a.inner, "x has a wrong type");
  check.matrix(a.w, a.inner, a.cols, "w does not fit x");
  check.matrix(a.y, a.rows, a.cols, "y does not fit x and w");
  check.wide_or_absent(a.bias, a.cols, "b does not fit w");
  check.matrix_or_absent(a.residual, a.rows, a.cols, "residual differs from y");
  check.matrix_or_absent(a.pre, a.rows, a.cols, "pre differs from y");
  return a;
}

struct LinearDxArgs {
  Tensor dy, w, pre, add, dx;
  Activation activation;
  int64_t rows, inner, cols;  // inner is the width of dy, cols that of dx
};

inline LinearDxArgs linear_dx_args(const Call& call) {
  const DenseCheck check("linear_dx", call);
  check.counts(2, 4, 1, 1, 1);
  LinearDxArgs a{call.input(0), call.input(1), call.input(2), call.input(3), call.output(0),
                 activation_attribute(check, call, 0), 0, 0, 0};
  check.require(a.dy.rank == 2 && a.w.rank == 2, "dy and w must be matrices");
  a.rows = a.dy.dim[0], a.inner = a.dy.dim[1], a.cols = a.w.dim[0];
  check.matrix(a.dy, a.rows, a.inner, "dy has a wrong type");
  check.matrix(a.w, a.cols, a.inner, "w does not fit dy");
  check.matrix(a.dx, a.rows, a.cols, "dx does not fit dy and w");
  check.matrix_or_absent(a.pre, a.rows, a.cols, "pre differs from dx");
  check.matrix_or_absent(a.add, a.rows, a.cols, "add differs from dx");
  return a;
}

struct LinearDwArgs {
  Tensor x, dy, dw, db;
  int64_t rows, ins, outs;
};

inline LinearDwArgs linear_dw_args(const Call& call) {
  const DenseCheck check("linear_dw", call);
  check.counts(2, 2, 1, 2, 0);
  LinearDwArgs a{call.input(0), call.input(1), call.output(0), call.output(1), 0, 0, 0};
  check.require(a.x.rank == 2 && a.dy.rank == 2, "x and dy must be matrices");
  a.rows = a.x.dim[0], a.ins = a.x.dim[1], a.outs = a.dy.dim[1];
  check.matrix(a.x, a.rows, a.ins, "x has a wrong type");
  check.matrix(a.dy, a.rows, a.outs, "dy does not fit x");
  check.require(a.dw.rank == 2 && a.dw.dim[0] == a.ins && a.dw.dim[1] == a.outs, "dw does not fit x and dy");
  check.wide(a.dw, a.ins * a.outs, "dw must be f32");
  check.wide_or_absent(a.db, a.outs, "db does not fit dy");
  return a;
}

}  // namespace longer
