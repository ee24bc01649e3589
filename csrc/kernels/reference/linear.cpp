#include "kernels/linear.h"

#include "kernels/dense_kernels.h"
#include "kernels/reference/activation_math.h"

namespace longer::reference {

void linear(const Call& call) {
  const LinearArgs a = linear_args(call);
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t c = 0; c < a.cols; ++c) {
      const int64_t at = r * a.cols + c;
      double pre = 0;
      for (int64_t k = 0; k < a.inner; ++k) pre += a.x.f64()[r * a.inner + k] * a.w.f64()[k * a.cols + c];
      if (a.bias.present()) pre += a.bias.f64()[c];
      if (a.pre.present()) a.pre.f64()[at] = pre;
      a.y.f64()[at] = activate(a.activation, pre) + (a.residual.present() ? a.residual.f64()[at] : 0);
    }
}

void linear_dx(const Call& call) {
  const LinearDxArgs a = linear_dx_args(call);
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t c = 0; c < a.cols; ++c) {
      const int64_t at = r * a.cols + c;
      double dx = 0;
      for (int64_t k = 0; k < a.inner; ++k) dx += a.dy.f64()[r * a.inner + k] * a.w.f64()[c * a.inner + k];
      if (a.pre.present()) dx *= activation_slope(a.activation, a.pre.f64()[at]);
      a.dx.f64()[at] = dx + (a.add.present() ? a.add.f64()[at] : 0);
    }
}

void linear_dw(const Call& call) {
  const LinearDwArgs a = linear_dw_args(call);
  for (int64_t i = 0; i < a.dw.size(); ++i) a.dw.f64()[i] = 0;
  for (int64_t o = 0; a.db.present() && o < a.outs; ++o) a.db.f64()[o] = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    const double* dy = a.dy.f64() + r * a.outs;
    for (int64_t i = 0; i < a.ins; ++i)
      for (int64_t o = 0; o < a.outs; ++o) a.dw.f64()[i * a.outs + o] += a.x.f64()[r * a.ins + i] * dy[o];
    for (int64_t o = 0; a.db.present() && o < a.outs; ++o) a.db.f64()[o] += dy[o];
  }
}

}  // namespace longer::reference
