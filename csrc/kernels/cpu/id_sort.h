// Sorts (id, source) pairs by id, then source, and finds where each unique id begins. The result depends on the pairs
// alone; threads share buckets of ids and chunks of sources.
#pragma once
#include <cstdint>

#include "runtime/thread_pool.h"

namespace longer::cpu {

struct SortedIds {
  const uint64_t* keys;   // id in the high half, source in the low one
  const int32_t* starts;  // unique + 1 positions
  int64_t count, unique;
};

int64_t id_sort_bytes(int64_t sources);

// ids[i] of source i; a negative one is left out.
SortedIds sort_ids(const int32_t* ids, int64_t sources, void* memory, ThreadPool& pool);

}  // namespace longer::cpu
