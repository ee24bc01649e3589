#include "kernels/write_rows.h"

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"

namespace longer::cpu {

void write_rows(const Call& call) {
  const WriteRowsArgs a = write_rows_args(call);
  check_places(a);
  const Values x = values(a.x), y = values(a.y);
  const int32_t* index = a.index.i32();
  split(*call.pool, a.rows, rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin, run; i < end; i += run) {  // rows that go side by side, at once
      for (run = 1; i + run < end && index[i + run] == index[i] + run;) ++run;
      row_ops().copy(x, i * a.width, 0, y, index[i] * a.width, 0, 1, run * a.width);
    }
  });
}

}  // namespace longer::cpu
