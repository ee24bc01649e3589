// gather_rows and gather_rows_dx (kernels/gather_rows.h). Backward: the gathered rows are sorted by the source row that they
// name, then every source row is one sum over its own, in ascending order.
#include "kernels/gather_rows.h"

#include "kernels/cuda/listed_sum.cuh"
#include "kernels/cuda/sort.h"

namespace longer::cuda {

namespace {

struct Sources {
  Values of[kMostSources];
  int64_t rows[kMostSources];
  int count;

  struct Row {
    Values source;
    int64_t row;
  };
  // Row `index` of the sources laid end to end.
  __device__ Row find(int64_t index) const {
    Row found{of[0], index};
#pragma unroll
    for (int s = 1; s < kMostSources; ++s) {
      if (s >= count || found.row < rows[s - 1]) return found;
      found.row -= rows[s - 1];
      found.source = of[s];
    }
    return found;
  }
};

Sources sources_of(const char* name, const GatherRowsArgs& a) {
  Sources s{};
  s.count = a.count;
  for (int i = 0; i < a.count; ++i) s.of[i] = values(name, a.sources[i]), s.rows[i] = a.sources[i].rows();
  return s;
}

int64_t all_rows(const GatherRowsArgs& a) {
  int64_t rows = 0;
  for (int s = 0; s < a.count; ++s) rows += a.sources[s].rows();
  return rows;
}

bool aligned(const GatherRowsArgs& a, const Sources& sources, Values y) {
  bool all = packs_aligned(y, a.width);
  for (int s = 0; s < a.count; ++s) all = all && packs_aligned(sources.of[s], a.width);
  return all;
}

struct Gather {
  Sources sources;
  const int32_t* index;
  Values y;
  int64_t all;
  int width;
  bool vector;
  int32_t *fault, code;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    const int64_t at = index[row];
    if (at >= all) report(fault, code);
    const bool there = at >= 0 && at < all;
    const Sources::Row from = sources.find(there ? at : 0);
    copy_row(y, row * width, from.source, from.row * width, width, there, vector, team);
  }
};

// Keys are the rows named; `all` for those that name none.
struct List {
  const int32_t* index;
  KeyedNumbers listed;
  int32_t* long_count;
  int64_t rows, all;
  int32_t *fault, code;
  __device__ void operator()(int64_t at, int count) const {
    if (at == 0) *long_count = 0;
    for (int64_t i = at; i < at + count; ++i) {
      if (index[i] >= all) report(fault, code);
      listed.keys[i] = static_cast<uint32_t>(index[i] < 0 || index[i] >= all ? all : index[i]);
      listed.numbers[i] = static_cast<uint32_t>(i);
    }
  }
};

struct NamedRows {
  Sources sources;
  KeyedNumbers sorted;
  Values dy;
  int64_t rows, all;
  int width;
  bool vector;

  __device__ int64_t segments() const { return all; }
  // The first entry whose key is at least `key`.
  __device__ int64_t first(int64_t key) const {
    int64_t low = 0, high = rows;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sorted.keys[middle] < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  __device__ void range(int64_t segment, int64_t& from, int64_t& to) const { from = first(segment), to = first(segment + 1); }
  __device__ void fetch(int64_t entry, int c, int count, float (&v)[kPack]) const {
    load_pack(v, dy, static_cast<int64_t>(sorted.numbers[entry]) * width + c, count, vector);
  }
  __device__ void store(int64_t segment, int c, int count, const float (&v)[kPack]) const {
    const Sources::Row to = sources.find(segment);
    store_pack(to.source, to.row * width + c, v, count, vector);
  }
};

int bits_of(int64_t largest) {
  int bits = 1;
  while (largest >> bits) ++bits;
  return bits;
}

}  // namespace

void gather_rows(const Call& call, const Queue& queue) {
  const GatherRowsArgs a = gather_rows_args(call, false);
  const Sources sources = sources_of("gather_rows", a);
  const Values y = values("gather_rows", a.y);
  each_row(queue, "gather_rows", a.rows, a.width,
           Gather{sources, vector_of<int32_t>("gather_rows", a.index), y, all_rows(a), narrow("gather_rows", a.width), aligned(a, sources, y),
                  queue.fault, queue.code});
}

int64_t gather_rows_dx_workspace(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, true);
  return (2 * a.rows + 1 + most_long_segments(a.rows)) * 4 + sort_bytes(a.rows);
}

void gather_rows_dx(const Call& call, const Queue& queue) {
  const GatherRowsArgs a = gather_rows_args(call, true);
  const Sources sources = sources_of("gather_rows_dx", a);
  const Values dy = values("gather_rows_dx", a.y);
  const int64_t all = all_rows(a);
  auto* memory = static_cast<uint32_t*>(call.workspace);
  const KeyedNumbers listed{memory, memory + a.rows};
  auto* long_count = reinterpret_cast<int32_t*>(memory + 2 * a.rows);
  int32_t* long_list = long_count + 1;
  pointwise(queue, "gather_rows_dx list", a.rows,
            List{vector_of<int32_t>("gather_rows_dx", a.index), listed, long_count, a.rows, all, queue.fault, queue.code});
  const KeyedNumbers sorted = sort(queue.stream, listed, a.rows, bits_of(all), long_list + most_long_segments(a.rows));
  const int width = narrow("gather_rows_dx", a.width);
  listed_sums(queue, "gather_rows_dx", all, a.rows, width, NamedRows{sources, sorted, dy, a.rows, all, width, aligned(a, sources, dy)}, long_count,
              long_list);
}

}  // namespace longer::cuda
