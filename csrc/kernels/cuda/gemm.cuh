// The product of two matrices (tile.cuh), d[m, n] = sum over k of a[m, k] b[k, n]. A block has a tile of kTileM x kTileN of d
// and goes through k in slabs of 64 bytes; slabs come by cp.async, kStages - 1 ahead.
#pragma once
#include "kernels/cuda/tile.cuh"

namespace longer::cuda {

constexpr int kTileM = 64, kTileN = 64;
constexpr int kStages = 3;
constexpr int kSlabBytes = 64;

// kTransposeA: a lies in memory as [k, m]. kTransposeB: b lies in memory as [n, k].
template <class T, bool kTransposeA, bool kTransposeB>
struct GemmShared {
  static constexpr int kSlab = kSlabBytes / sizeof(T);
  using A = Tile<T, kTransposeA ? kSlab : kTileM, kTransposeA ? kTileM : kSlab>;
  using B = Tile<T, kTransposeB ? kTileN : kSlab, kTransposeB ? kSlab : kTileN>;
  A a[kStages];
  B b[kStages];
};

// Four warps, 2 x 2; a warp has 32 x 32 of the tile, as 2 x 4 products of 16 x 8.
struct Accumulators {
  float d[2][4][4];
};

template <class T, bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_slab(Accumulators& acc, typename GemmShared<T, kTransposeA, kTransposeB>::A& a,
                                              typename GemmShared<T, kTransposeA, kTransposeB>::B& b, int m0, int n0) {
#pragma unroll
  for (int k = 0; k < GemmShared<T, kTransposeA, kTransposeB>::kSlab; k += kDepthStep<T>) {
    Left<T> left[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) load_factor<kTransposeA>(left[i], a, m0 + 16 * i, k);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      Right<T> right;
      load_factor<!kTransposeB>(right, b, n0 + 16 * j, k);
#pragma unroll
      for (int i = 0; i < 2; ++i) multiply(acc.d[i] + 2 * j, left[i], right);
    }
  }
}

struct GemmShape {
  int64_t rows;      // of d
  int columns;
  int64_t depth;     // of k
  int64_t depth_each;  // of a block's k: blockIdx.z has its own part, a multiple of a slab
};

// finish(row, column, value) for every element of d; of the block's part of k where there are several.
template <class T, bool kTransposeA, bool kTransposeB, class Finish>
__global__ void __launch_bounds__(kTileThreads, 3) gemm_kernel(Operand a, Operand b, GemmShape shape, Finish finish) {
  using Shared = GemmShared<T, kTransposeA, kTransposeB>;
  Shared& shared = shared_memory<Shared>();
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kTileM;
  const int column0 = blockIdx.y * kTileN;
  const int64_t first = blockIdx.z * shape.depth_each, last = min(first + shape.depth_each, shape.depth);
  const int slabs = static_cast<int>((last - first + Shared::kSlab - 1) / Shared::kSlab);
  const auto load = [&](int slab) {
    if (slab < slabs) {
      const int64_t k = first + static_cast<int64_t>(slab) * Shared::kSlab;
      auto& to_a = shared.a[slab % kStages];
      auto& to_b = shared.b[slab % kStages];
      const auto depth = [&](int i) { return k + i < last ? k + i : -1; };
      const auto row_of_a = [&](int i) { return row0 + i < a.rows ? row0 + i : -1; };
      const auto row_of_b = [&](int i) { return column0 + i < b.rows ? int64_t{column0} + i : -1; };
      if constexpr (kTransposeA) to_a.load(a, row0, a.columns, depth);
      else to_a.load(a, k, a.columns, row_of_a);
      if constexpr (kTransposeB) to_b.load(b, k, b.columns, row_of_b);
      else to_b.load(b, column0, b.columns, depth);
    }
    ptx::copy_async_commit();
  };
  const int warp = threadIdx.x / 32, m0 = warp / 2 * 32, n0 = warp % 2 * 32;
  Accumulators acc = {};
  for (int s = 0; s < kStages - 1; ++s) load(s);
  for (int s = 0; s < slabs; ++s) {
    ptx::copy_async_wait<kStages - 2>();
    __syncthreads();  // slab s is there, and slab s - 1 is done with
    load(s + kStages - 1);
    multiply_slab<T, kTransposeA, kTransposeB>(acc, shared.a[s % kStages], shared.b[s % kStages], m0, n0);
  }
  ptx::copy_async_wait<0>();
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int64_t row = row0 + m0 + 16 * i + g + r / 2 * 8;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = column0 + n0 + 8 * j + 2 * t + r % 2;
        if (row < shape.rows && column < shape.columns) finish(row, column, acc.d[i][j][r]);
      }
    }
}

template <class T, bool kTransposeA, bool kTransposeB, class Finish>
void gemm(Stream stream, const char* name, const Operand& a, const Operand& b, const GemmShape& shape, const Finish& finish) {
  const int64_t parts = shape.depth ? divide_up(shape.depth, shape.depth_each) : 1;
  launch(stream, name, gemm_kernel<T, kTransposeA, kTransposeB, Finish>,
         dim3(grid_size(name, divide_up(shape.rows, kTileM)), static_cast<unsigned>(divide_up(shape.columns, kTileN)), static_cast<unsigned>(parts)),
         dim3(kTileThreads), sizeof(GemmShared<T, kTransposeA, kTransposeB>), a, b, shape, finish);
}

}  // namespace longer::cuda
