// The product of two matrices on tensor cores (mma.sync), d[m, n] = sum over k of a[m, k] b[k, n], in a form that every GPU
// since sm_80 runs. A block has a tile of kTileM x kTileN of d and goes through k in slabs of 64 bytes; slabs come by cp.async,
// kStages - 1 ahead. Tiles lie in shared memory by rows of memory, 16-byte chunks exchanged so that the eight rows of an
// ldmatrix meet eight different groups of banks.
//
// T is what is multiplied: Bf16 pairs summed in f32, or float, as three products of TF32 halves (x = high + low), which keeps
// about 21 bits. An operand of another type or that chunks of 16 bytes cannot read is converted as it is loaded.
#pragma once
#include "kernels/cuda/values.cuh"

namespace longer::cuda {

constexpr int kGemmThreads = 128;
constexpr int kTileM = 64, kTileN = 64;
constexpr int kStages = 3;
constexpr int kSlabBytes = 64;

// A row-major matrix in global memory.
struct Operand {
  Values at;
  int64_t rows, columns;
  bool vector;  // of type T, every chunk inside or outside as a whole
};

template <class T>
Operand operand_of(Values at, int64_t rows, int64_t columns) {
  constexpr int64_t kChunk = 16 / sizeof(T);
  return {at, rows, columns, at.narrow == (sizeof(T) == 2) && reinterpret_cast<uintptr_t>(at.data) % 16 == 0 && columns % kChunk == 0};
}

// kRows rows of kColumns elements.
template <class T, int kRows, int kColumns>
struct Tile {
  static constexpr int kChunk = 16 / sizeof(T), kChunks = kColumns / kChunk;
  static_assert(kChunks == 4 || kChunks % 8 == 0, "a row is 64 bytes or whole lines of 128");
  alignas(16) T data[kRows * kColumns];

  __device__ __forceinline__ T* chunk(int row, int c) {
    return data + (row * kChunks + (kChunks == 4 ? c ^ (row >> 1 & 3) : c ^ (row & 7))) * kChunk;
  }
  __device__ __forceinline__ T& element(int row, int column) { return chunk(row, column / kChunk)[column % kChunk]; }

  __device__ void load(const Operand& from, int64_t row0, int64_t column0, int64_t last_row) {
    for (int i = threadIdx.x; i < kRows * kChunks; i += kGemmThreads) {
      const int row = i / kChunks, c = i % kChunks;
      const int64_t r = row0 + row, column = column0 + c * kChunk;
      T* to = chunk(row, c);
      if (from.vector) {
        const bool valid = r < last_row && column < from.columns;
        ptx::copy_async_16(to, static_cast<const T*>(from.at.data) + (valid ? r * from.columns + column : 0), valid);
      } else {
#pragma unroll
        for (int k = 0; k < kChunk; ++k)
          to[k] = from_float<T>(r < last_row && column + k < from.columns ? get(from.at, r * from.columns + column + k) : 0.f);
      }
    }
  }
};

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

template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_slab(Accumulators& acc, typename GemmShared<Bf16, kTransposeA, kTransposeB>::A& a,
                                              typename GemmShared<Bf16, kTransposeA, kTransposeB>::B& b, int m0, int n0) {
  const int lane = threadIdx.x % 32, matrix = lane / 8, line = lane % 8;
#pragma unroll
  for (int k = 0; k < 32; k += 16) {
    uint32_t left[2][4], right[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kTransposeA) ptx::ldmatrix_x4_trans(left[i], a.chunk(k + matrix / 2 * 8 + line, (m0 + 16 * i) / 8 + matrix % 2));
      else ptx::ldmatrix_x4(left[i], a.chunk(m0 + 16 * i + lane % 16, k / 8 + lane / 16));
      if constexpr (kTransposeB) ptx::ldmatrix_x4(right[i], b.chunk(n0 + 16 * i + matrix / 2 * 8 + line, k / 8 + matrix % 2));
      else ptx::ldmatrix_x4_trans(right[i], b.chunk(k + matrix % 2 * 8 + line, (n0 + 16 * i) / 8 + matrix / 2));
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) multiply<Bf16>(acc.d[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
  }
}

struct Halves {
  uint32_t high, low;
};
__device__ __forceinline__ Halves halves(float x) {
  const uint32_t high = ptx::to_tf32(x);
  return {high, ptx::to_tf32(x - __uint_as_float(high))};
}

template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_slab(Accumulators& acc, typename GemmShared<float, kTransposeA, kTransposeB>::A& a,
                                              typename GemmShared<float, kTransposeA, kTransposeB>::B& b, int m0, int n0) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int k = 0; k < 16; k += 8) {
    uint32_t high[2][4], low[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int m = m0 + 16 * i + g + r % 2 * 8, depth = k + t + r / 2 * 4;
        const Halves h = halves(kTransposeA ? a.element(depth, m) : a.element(m, depth));
        high[i][r] = h.high, low[i][r] = h.low;
      }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int n = n0 + 8 * j + g;
      const Halves first = halves(kTransposeB ? b.element(n, k + t) : b.element(k + t, n));
      const Halves second = halves(kTransposeB ? b.element(n, k + t + 4) : b.element(k + t + 4, n));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        ptx::mma_tf32(acc.d[i][j], low[i], first.high, second.high);
        ptx::mma_tf32(acc.d[i][j], high[i], first.low, second.low);
        ptx::mma_tf32(acc.d[i][j], high[i], first.high, second.high);
      }
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
__global__ void __launch_bounds__(kGemmThreads, 3) gemm_kernel(Operand a, Operand b, GemmShape shape, Finish finish) {
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
      if constexpr (kTransposeA) to_a.load(a, k, row0, last);
      else to_a.load(a, row0, k, a.rows);
      if constexpr (kTransposeB) to_b.load(b, column0, k, b.rows);
      else to_b.load(b, k, column0, last);
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
    multiply_slab<kTransposeA, kTransposeB>(acc, shared.a[s % kStages], shared.b[s % kStages], m0, n0);
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
         dim3(kGemmThreads), sizeof(GemmShared<T, kTransposeA, kTransposeB>), a, b, shape, finish);
}

}  // namespace longer::cuda
