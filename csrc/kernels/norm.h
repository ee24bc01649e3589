// norm: y = (x - mean) * rstd * gamma + beta, row by row, with rstd = 1 / sqrt(mean((x - mean)^2) + eps).
// kind 0 is layer norm; kind 1 is RMS norm, where mean is 0 and is neither given nor stored.
//
// norm_dx, with h = (x - mean) * rstd and g = dy * gamma:
//   dx = rstd * (g - mean(g) - h * mean(g * h)) + add      without mean(g) for RMS norm
//   dgamma = column sums of dy * h, dbeta = column sums of dy
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct NormArgs {
  Tensor x, gamma, beta, y, mean, rstd;
  bool rms;
  double eps;
  int64_t rows, width;
};

inline NormArgs norm_args(const Call& call) {
  const DenseCheck check("norm", call);
  check.counts(2, 3, 1, 3, 2);
  NormArgs a{call.input(0), call.input(1), call.input(2), call.output(0), call.output(1), call.output(2),
             call.integer(0) == 1, call.number(1), 0, 0};
  check.require(call.integer(0) == 0 || call.integer(0) == 1, "unknown kind");
  check.require(a.x.rank == 2, "x must be a matrix");
  a.rows = a.x.dim[0], a.width = a.x.dim[1];
  check.matrix(a.x, a.rows, a.width, "x has a wrong type");
  check.matrix(a.y, a.rows, a.width, "y differs from x");
  check.wide(a.gamma, a.width, "gamma does not fit x");
  check.wide_or_absent(a.beta, a.width, "beta does not fit x");
  check.wide_or_absent(a.mean, a.rows, "mean does not fit x");
  check.wide_or_absent(a.rstd, a.rows, "rstd does not fit x");
  return a;
}

struct NormDxArgs {
  Tensor x, gamma, mean, rstd, dy, add, dx, dgamma, dbeta;
  bool rms;
  int64_t rows, width;
};

inline NormDxArgs norm_dx_args(const Call& call) {
  const DenseCheck check("norm_dx", call);
  check.counts(5, 6, 2, 3, 1);
  NormDxArgs a{call.input(0), call.input(1), call.input(2), call.input(3), call.input(4), call.input(5),
               call.output(0), call.output(1), call.output(2), call.integer(0) == 1, 0, 0};
  check.require(call.integer(0) == 0 || call.integer(0) == 1, "unknown kind");
  check.require(a.x.rank == 2, "x must be a matrix");
  a.rows = a.x.dim[0], a.width = a.x.dim[1];
  check.matrix(a.x, a.rows, a.width, "x has a wrong type");
  check.matrix(a.dy, a.rows, a.width, "dy differs from x");
  check.matrix(a.dx, a.rows, a.width, "dx differs from x");
  check.matrix_or_absent(a.add, a.rows, a.width, "add differs from x");
  check.wide(a.gamma, a.width, "gamma does not fit x");
  check.wide(a.dgamma, a.width, "dgamma does not fit x");
  check.wide_or_absent(a.dbeta, a.width, "dbeta does not fit x");
  check.wide(a.rstd, a.rows, "rstd does not fit x");
  if (!a.rms) check.wide(a.mean, a.rows, "mean does not fit x");
  return a;
}

}  // namespace longer
