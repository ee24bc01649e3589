#include "kernels/merge.h"

#include <cstring>

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"

namespace longer::cpu {

namespace {

// f(event, place, rows) for runs of events and their places among all K places of all groups.
template <class F>
void each_run(const MergeArgs& a, int64_t begin, int64_t end, F&& f) {
  each_segment(a.event_offsets.i32(), a.requests, begin, end, [&](int64_t r, int64_t from, int64_t to) {
    f(from, a.group_offsets.i32()[r] * a.group + a.missing(r) + from - a.first_event(r), to - from);
  });
}

}  // namespace

void merge(const Call& call) {
  const MergeArgs a = merge_args(call, false);
  const Values x = values(a.events), y = values(a.merged);
  split(*call.pool, a.events.rows(), rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    each_run(a, begin, end, [&](int64_t event, int64_t place, int64_t rows) {
      row_ops().copy(x, event * a.width, 0, y, place * a.width, 0, 1, rows * a.width);
    });
  });
  const int64_t row = a.width * dtype_size(a.merged.dtype);
  for (int64_t r = 0; r < a.requests; ++r)
    std::memset(static_cast<char*>(a.merged.data) + a.group_offsets.i32()[r] * a.group * row, 0, static_cast<size_t>(a.missing(r) * row));
}

void merge_dx(const Call& call) {
  const MergeArgs a = merge_args(call, true);
  const Values dy = values(a.merged), dx = values(a.events);
  split(*call.pool, a.events.rows(), rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    each_run(a, begin, end, [&](int64_t event, int64_t place, int64_t rows) {
      row_ops().copy(dy, place * a.width, 0, dx, event * a.width, 0, 1, rows * a.width);
    });
  });
}

}  // namespace longer::cpu
