// Sums of many rows. A sum runs over pieces of kPieceRows rows from its own first row on, each ascending, and the pieces are
// added up in ascending order: the same bits whoever adds them, a team of a warp or a block.
#pragma once
#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

constexpr int kPieceRows = 64;
constexpr int kSumWarps = 4;
constexpr int kSlab = 32 * kPack;  // columns that a block sums at a time

struct RowSumShared {
  float piece[kSumWarps][kSlab];
};

// By one thread: fetch(i, pack) reads the columns' pack of row i and returns its share of the sum in `pack`.
template <class Fetch>
__device__ __forceinline__ void add_piece(float (&sum)[kPack], int64_t first, int64_t last, Fetch&& fetch) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) sum[i] = 0.f;
  for (int64_t row = first; row < last; ++row) {
    float v[kPack];
    fetch(row, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  }
}

template <class Fetch>
__device__ __forceinline__ void sum_by_thread(float (&sum)[kPack], int64_t rows, Fetch&& fetch) {
  add_piece(sum, 0, min(rows, static_cast<int64_t>(kPieceRows)), fetch);
  for (int64_t first = kPieceRows; first < rows; first += kPieceRows) {
    float piece[kPack];
    add_piece(piece, first, min(rows, first + kPieceRows), fetch);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += piece[i];
  }
}

// By a block of kSumWarps warps, which all call it; lane l has the slab's columns 8 l ... The first warp gets the sum.
template <class Fetch>
__device__ __forceinline__ void sum_by_block(float (&sum)[kPack], RowSumShared& shared, int64_t rows, Fetch&& fetch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kPack; ++i) sum[i] = 0.f;
  for (int64_t base = 0; base < rows; base += kSumWarps * kPieceRows) {
    const int64_t first = base + warp * kPieceRows;
    float piece[kPack];
    add_piece(piece, first, min(rows, first + kPieceRows), fetch);
#pragma unroll
    for (int i = 0; i < kPack; ++i) shared.piece[warp][i * 32 + lane] = piece[i];
    __syncthreads();
    if (warp == 0)
      for (int w = 0; w < kSumWarps && base + w * kPieceRows < rows; ++w)
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] = base + w == 0 ? shared.piece[w][i * 32 + lane] : sum[i] + shared.piece[w][i * 32 + lane];
    __syncthreads();
  }
}

// op.sum(segment, column, count, shared): by a block of kSumWarps warps for every segment and slab of columns; column is this lane's.
template <class Op>
__global__ void __launch_bounds__(32 * kSumWarps, 4) block_sums_kernel(Op op, int64_t segments, int width) {
  RowSumShared& shared = shared_memory<RowSumShared>();
  const int column = blockIdx.y * kSlab + threadIdx.x % 32 * kPack, count = min(kPack, width - column);
  for (int64_t segment = blockIdx.x; segment < segments; segment += gridDim.x) op.sum(segment, column, count, shared);
}

template <class Op>
void each_block_sum(const Queue& queue, const char* name, int64_t segments, int width, const Op& op) {
  launch(queue.stream, name, block_sums_kernel<Op>, dim3(static_cast<unsigned>(std::min(segments, kMostBlocks)), static_cast<unsigned>(divide_up(width, kSlab))),
         dim3(32 * kSumWarps), sizeof(RowSumShared), op, segments, width);
}

}  // namespace longer::cuda
