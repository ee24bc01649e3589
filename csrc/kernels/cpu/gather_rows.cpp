#include "kernels/gather_rows.h"

#include <cstring>

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

int64_t source_rows(const GatherRowsArgs& a) {
  int64_t rows = 0;
  for (int s = 0; s < a.count; ++s) rows += a.sources[s].rows();
  return rows;
}

void check_index(const char* op, const int32_t* index, int64_t begin, int64_t end, int64_t rows) {
  for (int64_t i = begin; i < end; ++i)
    if (index[i] >= rows)
      throw std::runtime_error(std::string(op) + ": index[" + std::to_string(i) + "] is " + std::to_string(index[i]) +
                               ", the sources have " + std::to_string(rows) + " rows");
}

}  // namespace

void gather_rows(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, false);
  Values sources[kMostSources];
  int64_t rows[kMostSources];
  for (int s = 0; s < a.count; ++s) sources[s] = values(a.sources[s]), rows[s] = a.sources[s].rows();
  const GatherRange range{a.index.i32(), sources, rows, values(a.y), a.width};
  const int64_t all = source_rows(a);
  split(*call.pool, a.rows, rows_a_task(a.width), [&](int64_t begin, int64_t end) {
    check_index("gather_rows", range.index, begin, end, all);
    row_ops().gather(range, begin, end);
  });
}

int64_t gather_rows_dx_workspace(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, true);
  return align_up((source_rows(a) + 2 + a.rows) * 4);
}

// The gathered rows are listed by source row in ascending order, then every source row is one sum.
void gather_rows_dx(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, true);
  const int64_t all = source_rows(a);
  const int32_t* index = a.index.i32();
  check_index("gather_rows_dx", index, 0, a.rows, all);
  int32_t* next = static_cast<int32_t*>(call.workspace);  // becomes starts, one place late
  int32_t* order = next + all + 2;
  std::memset(next, 0, static_cast<size_t>(all + 2) * 4);
  for (int64_t i = 0; i < a.rows; ++i)
    if (index[i] >= 0) ++next[index[i] + 2];
  for (int64_t r = 0; r < all; ++r) next[r + 2] += next[r + 1];
  for (int64_t i = 0; i < a.rows; ++i)
    if (index[i] >= 0) order[next[index[i] + 1]++] = static_cast<int32_t>(i);
  const int32_t* starts = next;
  const int64_t columns = columns_a_task(a.rows, a.width), strips = (a.width + columns - 1) / columns;
  for (int s = 0; s < a.count; starts += a.sources[s++].rows()) {
    const ListedSum sum{values(a.y), values(a.sources[s]), starts, order, a.width, false};
    const int64_t rows = a.sources[s].rows(), step = rows_a_task(columns);
    const int64_t tasks = (rows + step - 1) / step;
    call.pool->parallel_for(tasks * strips, [&](int64_t task, int) {
      const int64_t begin = task / strips * step, column = task % strips * columns;
      row_ops().listed_sum(sum, begin, std::min(rows, begin + step), column, std::min(a.width, column + columns));
    });
  }
}

}  // namespace longer::cpu
