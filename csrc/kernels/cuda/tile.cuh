// Tiles of matrices in shared memory, and products of them by a warp on tensor cores (mma.sync), in a form that every GPU
// since sm_80 runs. Tiles come by cp.async and lie by rows of memory, 16-byte chunks exchanged so that the eight rows of an
// ldmatrix meet eight different groups of banks.
//
// T is what is multiplied: pairs of Bf16 or of Half summed in f32; float, as three products of TF32 halves (x = high + low),
// which keeps about 21 bits; or Tf32, an f32 of which the high half alone is multiplied. An operand of another type or that
// chunks of 16 bytes cannot read is converted as it is loaded.
#pragma once
#include "kernels/cuda/values.cuh"

namespace longer::cuda {

constexpr int kTileThreads = 128;  // of a block that loads tiles together

// A row-major matrix in global memory.
struct Operand {
  Values at;
  int64_t rows, columns;
  bool vector;  // of type T, every chunk inside or outside as a whole
};

template <class T>
Operand operand_of(Values at, int64_t rows, int64_t columns) {
  constexpr int64_t kChunk = 16 / sizeof(T);
  return {at, rows, columns, at.type == dtype_of<T>() && reinterpret_cast<uintptr_t>(at.data) % 16 == 0 && columns % kChunk == 0};
}

// kRows rows of kColumns elements.
template <class T, int kRows, int kColumns>
struct Tile {
  static constexpr int kChunk = 16 / sizeof(T), kChunks = kColumns / kChunk;
  static_assert(kChunks == 2 || kChunks == 4 || kChunks % 8 == 0, "a row is 32 bytes, 64, or whole lines of 128");
  alignas(16) T data[kRows * kColumns];

  __device__ __forceinline__ T* chunk(int row, int c) {
    return data + (row * kChunks + (c ^ (kChunks == 2 ? row >> 2 & 1 : kChunks == 4 ? row >> 1 & 3 : row & 7))) * kChunk;
  }
  __device__ __forceinline__ T& element(int row, int column) { return chunk(row, column / kChunk)[column % kChunk]; }
  // Neighbours, the first in an even column.
  __device__ __forceinline__ void put(int row, int column, float first, float second) {
    T* to = &element(row, column);
    if constexpr (sizeof(T) == 2) *reinterpret_cast<uint32_t*>(to) = pack<T>(first, second);
    else *reinterpret_cast<float2*>(to) = make_float2(first, second);
  }

  // By kThreads neighbours. row_of(i): the row of the matrix that row i holds; negative: zeros. Columns from column0 on, zeros
  // from last_column on.
  template <int kThreads = kTileThreads, class RowOf>
  __device__ __forceinline__ void load(const Operand& from, int64_t column0, int64_t last_column, RowOf&& row_of) {
#pragma unroll 1  // addresses of several would cost registers
    for (int i = threadIdx.x % kThreads; i < kRows * kChunks; i += kThreads) {
      const int row = i / kChunks, c = i % kChunks;
      const int64_t r = row_of(row), column = column0 + c * kChunk;
      T* to = chunk(row, c);
      if (from.vector) {
        const bool valid = r >= 0 && column < last_column;
        ptx::copy_async_16(to, static_cast<const T*>(from.at.data) + (valid ? r * from.columns + column : 0), valid);
      } else {
#pragma unroll
        for (int k = 0; k < kChunk; ++k)
          to[k] = from_float<T>(r >= 0 && column + k < last_column ? get(from.at, r * from.columns + column + k) : 0.f);
      }
    }
  }

  // The way back, to a matrix of type T: rows with a row of the matrix, columns before last_column.
  template <int kThreads = kTileThreads, class RowOf>
  __device__ __forceinline__ void store(const Operand& to, int64_t column0, int64_t last_column, RowOf&& row_of) {
    for (int i = threadIdx.x % kThreads; i < kRows * kChunks; i += kThreads) {
      const int row = i / kChunks, c = i % kChunks;
      const int64_t r = row_of(row), column = column0 + c * kChunk;
      if (r < 0 || column >= last_column) continue;
      T* from = chunk(row, c);
      if (to.vector) {
        ptx::store_global_16(static_cast<T*>(to.at.data) + r * to.columns + column, *reinterpret_cast<const uint4*>(from));
      } else {
#pragma unroll
        for (int k = 0; k < kChunk; ++k)
          if (column + k < last_column) static_cast<T*>(to.at.data)[r * to.columns + column + k] = from[k];
      }
    }
  }
};

// ---- factors of a warp's products. With g = lane / 4 and t = lane % 4 a thread has rows (columns) g of them.
// The depth of a product of floats is taken in the order 0, 2, 4, 6, 1, 3, 5, 7, in which sums (left_of) lie in registers.

template <class T>
constexpr int kDepthStep = 32 / static_cast<int>(sizeof(T));

struct Pairs {
  uint32_t pair[4];
};
struct Halves {
  uint32_t high[4], low[4];
  __device__ __forceinline__ void set(int i, float x) {
    high[i] = ptx::to_tf32(x);
    low[i] = ptx::to_tf32(x - __uint_as_float(high[i]));
  }
};
struct HighHalves {
  uint32_t high[4];
  __device__ __forceinline__ void set(int i, float x) { high[i] = ptx::to_tf32(x); }
};
template <class T>
using Factor = std::conditional_t<sizeof(T) == 2, Pairs, std::conditional_t<std::is_same_v<T, Tf32>, HighHalves, Halves>>;
template <class T>
struct Left : Factor<T> {};  // 16 rows, kDepthStep of depth
template <class T>
struct Right : Factor<T> {};  // kDepthStep of depth, 16 columns

// Neighbours along the depth, of a tile of 4-byte elements: rows (columns) n, depth k and k + 1.
template <bool kDepthInRows, class T, int kRows, int kColumns>
__device__ __forceinline__ float2 neighbours(Tile<T, kRows, kColumns>& tile, int n, int k) {
  if constexpr (kDepthInRows) return make_float2(to_float(tile.element(k, n)), to_float(tile.element(k + 1, n)));
  else return *reinterpret_cast<const float2*>(&tile.element(n, k));
}

// Rows m0 .. and depth k0 .. of a tile whose rows are the left matrix's rows, or, kDepthInRows, the depth.
template <bool kDepthInRows, class T, int kRows, int kColumns>
__device__ __forceinline__ void load_factor(Left<T>& f, Tile<T, kRows, kColumns>& tile, int m0, int k0) {
  if constexpr (sizeof(T) == 2) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, line = lane % 8;
    if constexpr (kDepthInRows) ptx::ldmatrix_x4_trans(f.pair, tile.chunk(k0 + matrix / 2 * 8 + line, m0 / 8 + matrix % 2));
    else ptx::ldmatrix_x4(f.pair, tile.chunk(m0 + lane % 16, k0 / 8 + lane / 16));
  } else {
    const int g = threadIdx.x % 32 / 4, k = k0 + threadIdx.x % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float2 v = neighbours<kDepthInRows>(tile, m0 + g + 8 * r, k);
      f.set(r, v.x), f.set(r + 2, v.y);
    }
  }
}

// Depth k0 .. and columns n0 .. of a tile whose rows are the right matrix's columns, or, kDepthInRows, the depth.
template <bool kDepthInRows, class T, int kRows, int kColumns>
__device__ __forceinline__ void load_factor(Right<T>& f, Tile<T, kRows, kColumns>& tile, int n0, int k0) {
  if constexpr (sizeof(T) == 2) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, line = lane % 8;
    if constexpr (kDepthInRows) ptx::ldmatrix_x4_trans(f.pair, tile.chunk(k0 + matrix % 2 * 8 + line, n0 / 8 + matrix / 2));
    else ptx::ldmatrix_x4(f.pair, tile.chunk(n0 + matrix / 2 * 8 + line, k0 / 8 + matrix % 2));
  } else {
    const int g = threadIdx.x % 32 / 4, k = k0 + threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float2 v = neighbours<kDepthInRows>(tile, n0 + g + 8 * j, k);
      f.set(2 * j, v.x), f.set(2 * j + 1, v.y);
    }
  }
}

// Sums of 16 rows by kDepthStep columns (8 a quadruple) as a left factor whose depth are those columns.
template <class T>
__device__ __forceinline__ Left<T> left_of(const float (*sums)[4]) {
  Left<T> f;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) f.pair[i] = pack<T>(sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) f.set(i, sums[0][i % 2 * 2 + i / 2]);
  }
  return f;
}

// d[0] += the product's columns 0 .. 7, d[1] += 8 .. 15.
template <class T>
__device__ __forceinline__ void multiply(float (*d)[4], const Left<T>& a, const Right<T>& b) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if constexpr (sizeof(T) == 2) {
      multiply<T>(d[j], a.pair, b.pair[2 * j], b.pair[2 * j + 1]);
    } else {
      if constexpr (std::is_same_v<T, float>) {
        ptx::mma_tf32(d[j], a.low, b.high[2 * j], b.high[2 * j + 1]);
        ptx::mma_tf32(d[j], a.high, b.low[2 * j], b.low[2 * j + 1]);
      }
      ptx::mma_tf32(d[j], a.high, b.high[2 * j], b.high[2 * j + 1]);
    }
  }
}

}  // namespace longer::cuda
