#include "kernels/gate.h"

#include "kernels/dense_kernels.h"
#include "kernels/reference/activation_math.h"

namespace longer::reference {

void gate(const Call& call) {
  const GateArgs a = gate_args(call);
  for (int64_t i = 0; i < a.x.size(); ++i) a.y.f64()[i] = a.x.f64()[i] * sigmoid(a.g.f64()[i]);
}

void gate_dx(const Call& call) {
  const GateArgs a = gate_dx_args(call);
  for (int64_t i = 0; i < a.x.size(); ++i) {
    const double s = sigmoid(a.g.f64()[i]), x = a.x.f64()[i], dy = a.dy.f64()[i];
    a.dx.f64()[i] = dy * s;
    a.dg.f64()[i] = dy * x * s * (1 - s);
  }
}

}  // namespace longer::reference
