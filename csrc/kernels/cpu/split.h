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

}  // namespace longer::cpu
