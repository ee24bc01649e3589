#include "kernels/norm.h"

#include <cmath>

#include "kernels/dense_kernels.h"

namespace longer::reference {

void norm(const Call& call) {
  const NormArgs a = norm_args(call);
  for (int64_t r = 0; r < a.rows; ++r) {
    const double* x = a.x.f64() + r * a.width;
    double mean = 0, square = 0;
    for (int64_t c = 0; c < a.width && !a.rms; ++c) mean += x[c] / a.width;
    for (int64_t c = 0; c < a.width; ++c) square += (x[c] - mean) * (x[c] - mean) / a.width;
    const double rstd = 1 / std::sqrt(square + a.eps);
    for (int64_t c = 0; c < a.width; ++c)
      a.y.f64()[r * a.width + c] =
          (x[c] - mean) * rstd * a.gamma.f64()[c] + (a.beta.present() ? a.beta.f64()[c] : 0);
    if (a.mean.present()) a.mean.f64()[r] = mean;
    if (a.rstd.present()) a.rstd.f64()[r] = rstd;
  }
}

void norm_dx(const Call& call) {
  const NormDxArgs a = norm_dx_args(call);
  for (int64_t c = 0; c < a.width; ++c) {
    a.dgamma.f64()[c] = 0;
    if (a.dbeta.present()) a.dbeta.f64()[c] = 0;
  }
  for (int64_t r = 0; r < a.rows; ++r) {
    const double *x = a.x.f64() + r * a.width, *dy = a.dy.f64() + r * a.width, *gamma = a.gamma.f64();
    const double mean = a.rms ? 0 : a.mean.f64()[r], rstd = a.rstd.f64()[r];
    double mean_g = 0, mean_gh = 0;
    for (int64_t c = 0; c < a.width; ++c) {
      const double h = (x[c] - mean) * rstd;
      if (!a.rms) mean_g += dy[c] * gamma[c] / a.width;
      mean_gh += dy[c] * gamma[c] * h / a.width;
      a.dgamma.f64()[c] += dy[c] * h;
      if (a.dbeta.present()) a.dbeta.f64()[c] += dy[c];
    }
    for (int64_t c = 0; c < a.width; ++c) {
      const double h = (x[c] - mean) * rstd;
      a.dx.f64()[r * a.width + c] = rstd * (dy[c] * gamma[c] - mean_g - h * mean_gh) +
                                    (a.add.present() ? a.add.f64()[r * a.width + c] : 0);
    }
  }
}

}  // namespace longer::reference
