#include "kernels/concat.h"

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"

namespace longer::cpu {

void concat(const Call& call) {
  const ConcatArgs a = concat_args(call, false);
  const Values y = values(a.whole);
  split(*call.pool, a.rows, rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    int64_t column = 0;
    for (int i = 0; i < a.count; ++i) {
      const int64_t width = a.parts[i].cols();
      row_ops().copy(values(a.parts[i]), begin * width, width, y, begin * a.width + column, a.width, end - begin, width);
      column += width;
    }
  });
}

void concat_dx(const Call& call) {
  const ConcatArgs a = concat_args(call, true);
  const Values dy = values(a.whole);
  split(*call.pool, a.rows, rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    int64_t column = 0;
    for (int i = 0; i < a.count; ++i) {
      const int64_t width = a.parts[i].cols();
      row_ops().copy(dy, begin * a.width + column, a.width, values(a.parts[i]), begin * width, width, end - begin, width);
      column += width;
    }
  });
}

}  // namespace longer::cpu
