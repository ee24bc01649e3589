#include "kernels/dense_kernels.h"
#include "kernels/reference/activation_math.h"

namespace longer::reference {

void activation(const Call& call) {
  const ActivationArgs a = activation_args(call);
  for (int64_t i = 0; i < a.x.size(); ++i) a.y.f64()[i] = activate(a.kind, a.x.f64()[i]);
}

void activation_dx(const Call& call) {
  const ActivationDxArgs a = activation_dx_args(call);
  for (int64_t i = 0; i < a.x.size(); ++i) a.dx.f64()[i] = a.dy.f64()[i] * activation_slope(a.kind, a.x.f64()[i]);
}

}  // namespace longer::reference
