// Kernels that go element by element, or row by row.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace longer::cuda {

constexpr int kPointThreads = 128;
constexpr int64_t kMostBlocks = int64_t{1} << 30;

// op(at, count): elements [at, at + count), count at most 8.
template <class Op>
__global__ void __launch_bounds__(kPointThreads, 4) pointwise_kernel(Op op, int64_t elements) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kPointThreads * kPack;
  for (int64_t at = (static_cast<int64_t>(blockIdx.x) * kPointThreads + threadIdx.x) * kPack; at < elements; at += step)
    op(at, static_cast<int>(min(static_cast<int64_t>(kPack), elements - at)));
}

template <class Op>
void pointwise(const Queue& queue, const char* name, int64_t elements, const Op& op) {
  const int64_t blocks = divide_up(elements, kPointThreads * kPack);
  launch(queue.stream, name, pointwise_kernel<Op>, dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks))), dim3(kPointThreads), 0, op, elements);
}

// The threads that share a row: 1 to 32 neighbours, each taking every `size`-th pack of 8 columns.
struct RowTeam {
  int lane, size;

  // Calls visit(column, count) for this thread's packs of a row.
  template <class Visit>
  __device__ __forceinline__ void packs(int width, Visit&& visit) const {
    for (int c = lane * kPack; c < width; c += size * kPack) visit(c, min(kPack, width - c));
  }
  __device__ __forceinline__ unsigned mask() const { return size == 32 ? 0xffffffffu : ((1u << size) - 1) << (threadIdx.x % 32 & ~(size - 1)); }
  // Every thread of the team must call these; every thread gets the sum, or the largest.
  __device__ __forceinline__ float sum(float x) const {
    for (int by = size / 2; by > 0; by /= 2) x += __shfl_xor_sync(mask(), x, by, size);
    return x;
  }
  __device__ __forceinline__ uint32_t most(uint32_t x) const {
    for (int by = size / 2; by > 0; by /= 2) x = max(x, __shfl_xor_sync(mask(), x, by, size));
    return x;
  }
};

// op(row, team) for each row.
template <class Op>
__global__ void __launch_bounds__(kPointThreads, 4) rows_kernel(Op op, int64_t rows, int team) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kPointThreads / team);
  for (int64_t row = (static_cast<int64_t>(blockIdx.x) * kPointThreads + threadIdx.x) / team; row < rows; row += step)
    op(row, RowTeam{static_cast<int>(threadIdx.x) % team, team});
}

inline int team_for(int64_t width) {
  int team = 1;
  while (team < 32 && team * kPack < width) team *= 2;
  return team;
}

template <class Op>
void each_row(const Queue& queue, const char* name, int64_t rows, int64_t width, const Op& op) {
  const int team = team_for(width);
  const int64_t blocks = divide_up(rows, kPointThreads / team);
  launch(queue.stream, name, rows_kernel<Op>, dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks))), dim3(kPointThreads), 0, op, rows, team);
}

// A row's columns from one matrix to another; nothing at `from` where there is none.
__device__ __forceinline__ void copy_row(Values to, int64_t to_at, Values from, int64_t from_at, int width, bool there, bool vector, const RowTeam& team) {
  team.packs(width, [&](int c, int count) {
    float v[kPack] = {};
    if (there) load_pack(v, from, from_at + c, count, vector);
    store_pack(to, to_at + c, v, count, vector);
  });
}

// The segment that row i lies in: the last one that begins at or before it. offsets[0] <= i < offsets[segments].
__device__ __forceinline__ int64_t segment_of(const int32_t* offsets, int64_t segments, int64_t i) {
  int64_t low = 0, high = segments;  // offsets[low] <= i < offsets[high]
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (offsets[middle] <= i) low = middle;
    else high = middle;
  }
  return low;
}

__device__ __forceinline__ void report(int32_t* fault, int32_t code) {
  if (fault) atomicMax(fault, code);
}

}  // namespace longer::cuda
