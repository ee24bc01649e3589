// Sums of rows that a list names: out[s] = sum of the list's entries [begin(s), end(s)), in their order. Segments of more than
// kPieceRows entries are listed and left to blocks.
#pragma once
#include "kernels/cuda/row_sum.cuh"

namespace longer::cuda {

// Source has
//   segments()                       how many there are, on the device
//   range(segment, from, to)         its entries
//   fetch(entry, column, count, v)   the pack of columns of an entry
//   store(segment, column, count, v)
template <class Source>
struct ShortSums {
  Source source;
  int width;
  int32_t *long_count, *long_list;
  __device__ void operator()(int64_t segment, const RowTeam& team) const {
    if (segment >= source.segments()) return;
    int64_t from, to;
    source.range(segment, from, to);
    if (to - from > kPieceRows) {
      if (team.lane == 0) long_list[atomicAdd(long_count, 1)] = static_cast<int32_t>(segment);
      return;
    }
    team.packs(width, [&](int c, int count) {
      float sum[kPack];
      sum_by_thread(sum, to - from, [&](int64_t i, float (&v)[kPack]) { source.fetch(from + i, c, count, v); });
      source.store(segment, c, count, sum);
    });
  }
};

template <class Source>
struct LongSums {
  Source source;
  const int32_t *long_count, *long_list;
  __device__ void sum(int64_t listed, int c, int count, RowSumShared& shared) const {
    if (listed >= *long_count) return;
    const int64_t segment = long_list[listed];
    int64_t from, to;
    source.range(segment, from, to);
    float sum[kPack];
    sum_by_block(sum, shared, to - from, [&](int64_t i, float (&v)[kPack]) { source.fetch(from + i, c, count, v); });
    if (threadIdx.x < 32 && count > 0) source.store(segment, c, count, sum);
  }
};

inline int64_t most_long_segments(int64_t entries) { return entries / (kPieceRows + 1); }

// *long_count is 0 before; long_list has room for most_long_segments(entries).
template <class Source>
void listed_sums(const Queue& queue, const char* name, int64_t most_segments, int64_t entries, int width, const Source& source, int32_t* long_count,
                 int32_t* long_list) {
  each_row(queue, name, most_segments, width, ShortSums<Source>{source, width, long_count, long_list});
  each_block_sum(queue, name, most_long_segments(entries), width, LongSums<Source>{source, long_count, long_list});
}

}  // namespace longer::cuda
