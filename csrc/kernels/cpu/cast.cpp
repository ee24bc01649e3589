#include "kernels/cast.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

void cast(const Call& call) {
  const CastArgs a = cast_args(call);
  const Values x = values(a.x), y = values(a.y);
  split(*call.pool, a.x.size(), kRangeTask, [&](int64_t begin, int64_t end) { vector_ops().cast(x, y, begin, end); });
}

}  // namespace longer::cpu
