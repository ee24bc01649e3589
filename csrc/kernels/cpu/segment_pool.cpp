#include "kernels/segment_pool.h"

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"

namespace longer::cpu {

void segment_pool(const Call& call) {
  const SegmentPoolArgs a = segment_pool_args(call, false);
  const ListedSum sum{values(a.rows), values(a.pooled), a.offsets.i32(), nullptr, a.width, a.mean};
  const int64_t columns = columns_a_task(a.rows.rows(), a.width), strips = (a.width + columns - 1) / columns;
  // segments are as long as they are: a task each, unless they are short
  const int64_t step = std::max<int64_t>(1, a.segments * rows_a_task(columns) / std::max<int64_t>(1, a.rows.rows()));
  call.pool->parallel_for((a.segments + step - 1) / step * strips, [&](int64_t task, int) {
    const int64_t begin = task / strips * step, column = task % strips * columns;
    row_ops().listed_sum(sum, begin, std::min(a.segments, begin + step), column, std::min(a.width, column + columns));
  });
}

void segment_pool_dx(const Call& call) {
  const SegmentPoolArgs a = segment_pool_args(call, true);
  const Values dy = values(a.pooled), dx = values(a.rows);
  const int32_t* offsets = a.offsets.i32();
  split(*call.pool, a.rows.rows(), rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    each_segment(offsets, a.segments, begin, end, [&](int64_t s, int64_t from, int64_t to) {
      const float share = a.mean ? 1.0f / static_cast<float>(offsets[s + 1] - offsets[s]) : 1.0f;
      row_ops().spread(dy, s * a.width, share, dx, from * a.width, to - from, a.width);
    });
  });
}

}  // namespace longer::cpu
