#include "kernels/dropout.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

void dropout(const Call& call) {
  const DropoutArgs a = dropout_args(call);
  const uint32_t key0 = static_cast<uint32_t>(a.seed.i32()[0]), key1 = static_cast<uint32_t>(a.seed.i32()[1]);
  const DropoutRange range{values(a.x),
                           values(a.y),
                           {key0, key1},
                           {static_cast<uint32_t>(a.stream), static_cast<uint32_t>(a.stream >> 32)},
                           a.threshold(),
                           static_cast<float>(1 / (1 - a.p)),
                           a.first};
  split(*call.pool, a.x.size(), kRangeTask, [&](int64_t begin, int64_t end) { vector_ops().dropout(range, begin, end); });
}

}  // namespace longer::cpu
