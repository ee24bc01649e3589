#include "kernels/activation.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

void activation(const Call& call) {
  const ActivationArgs a = activation_args(call);
  const Values x = values(a.x), y = values(a.y);
  split(*call.pool, a.x.size(), kRangeTask,
        [&](int64_t begin, int64_t end) { vector_ops().activation(a.kind, x, y, begin, end); });
}

void activation_dx(const Call& call) {
  const ActivationDxArgs a = activation_dx_args(call);
  const Values x = values(a.x), dy = values(a.dy), dx = values(a.dx);
  split(*call.pool, a.x.size(), kRangeTask,
        [&](int64_t begin, int64_t end) { vector_ops().activation_dx(a.kind, x, dy, dx, begin, end); });
}

}  // namespace longer::cpu
