#include "kernels/gate.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

void gate(const Call& call) {
  const GateArgs a = gate_args(call);
  const Values x = values(a.x), g = values(a.g), y = values(a.y);
  split(*call.pool, a.x.size(), kRangeTask, [&](int64_t begin, int64_t end) { vector_ops().gate(x, g, y, begin, end); });
}

void gate_dx(const Call& call) {
  const GateArgs a = gate_dx_args(call);
  const Values x = values(a.x), g = values(a.g), dy = values(a.dy), dx = values(a.dx), dg = values(a.dg);
  split(*call.pool, a.x.size(), kRangeTask,
        [&](int64_t begin, int64_t end) { vector_ops().gate_dx(x, g, dy, dx, dg, begin, end); });
}

}  // namespace longer::cpu
