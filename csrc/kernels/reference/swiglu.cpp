#include "kernels/swiglu.h"

#include "kernels/dense_kernels.h"
#include "kernels/reference/activation_math.h"

namespace longer::reference {

void swiglu(const Call& call) {
  const SwigluArgs s = swiglu_args(call);
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t c = 0; c < s.hidden; ++c) {
      const double* a = s.a.f64() + 2 * r * s.hidden + c;
      s.y.f64()[r * s.hidden + c] = activate(Activation::silu, a[0]) * a[s.hidden];
    }
}

void swiglu_dx(const Call& call) {
  const SwigluArgs s = swiglu_dx_args(call);
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t c = 0; c < s.hidden; ++c) {
      const double* a = s.a.f64() + 2 * r * s.hidden + c;
      double* da = s.da.f64() + 2 * r * s.hidden + c;
      const double dy = s.dy.f64()[r * s.hidden + c], left = a[0], right = a[s.hidden];
      da[0] = dy * right * activation_slope(Activation::silu, left);
      da[s.hidden] = dy * activate(Activation::silu, left);
    }
}

}  // namespace longer::reference
