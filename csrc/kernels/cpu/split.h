#pragma once
#include <algorithm>

#include "runtime/thread_pool.h"

namespace longer::cpu {

// f(begin, end) for consecutive ranges of at most `step` that cover [0, count).
template <class F>
void split(ThreadPool& pool, int64_t count, int64_t step, F&& f) {
  pool.parallel_for((count + step - 1) / step,
                    [&](int64_t task, int) { f(task * step, std::min(count, (task + 1) * step)); });
}

// Rows a task of about kElementsTask elements.
constexpr int64_t kElementsTask = 16384;
inline int64_t rows_a_task(int64_t width) { return std::max<int64_t>(1, kElementsTask / std::max<int64_t>(1, width)); }

// Columns a task where few rows are the sums of many: strips of 64, but all at once where there is little to add up.
inline int64_t columns_a_task(int64_t rows, int64_t width) {
  constexpr int64_t kStrip = 64;
  return rows * width <= kElementsTask ? std::max<int64_t>(1, width) : kStrip;
}

// The segment of ascending offsets that row r lies in; the last one that starts there where some are empty.
inline int64_t segment_of(const int32_t* offsets, int64_t segments, int64_t r) {
  return std::upper_bound(offsets, offsets + segments + 1, r) - offsets - 1;
}

// f(segment, begin, end) for the parts of segments in rows [begin, end).
template <class F>
void each_segment(const int32_t* offsets, int64_t segments, int64_t begin, int64_t end, F&& f) {
  for (int64_t s = segment_of(offsets, segments, begin); s < segments && begin < end; ++s) {
    const int64_t stop = std::min<int64_t>(end, offsets[s + 1]);
    if (begin < stop) f(s, begin, stop);
    begin = std::max(begin, stop);
  }
}

}  // namespace longer::cpu
