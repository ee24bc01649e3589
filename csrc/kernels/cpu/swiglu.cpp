#include "kernels/swiglu.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

namespace {

int64_t rows_a_task(const SwigluArgs& s) { return std::max<int64_t>(1, kRangeTask / std::max<int64_t>(1, s.hidden)); }

}  // namespace

void swiglu(const Call& call) {
  const SwigluArgs s = swiglu_args(call);
  const Values a = values(s.a), y = values(s.y);
  split(*call.pool, s.rows, rows_a_task(s),
        [&](int64_t begin, int64_t end) { vector_ops().swiglu(a, y, s.hidden, begin, end); });
}

void swiglu_dx(const Call& call) {
  const SwigluArgs s = swiglu_dx_args(call);
  const Values a = values(s.a), dy = values(s.dy), da = values(s.da);
  split(*call.pool, s.rows, rows_a_task(s),
        [&](int64_t begin, int64_t end) { vector_ops().swiglu_dx(a, dy, da, s.hidden, begin, end); });
}

}  // namespace longer::cpu
