// Rows of keys or values in int8 (kernels/quantised_rows.h) as tiles of what attention multiplies: scale * number in f32, rounded
// to T. cp.async cannot convert them: a thread fetches words into registers, and makes numbers of them when its products are done.
#pragma once
#include "kernels/cuda/flash.cuh"
#include "kernels/quantised_rows.h"

namespace longer::cuda {

// Keys in pages of rows in int8.
struct InQuantisedPages : InPages {};

// A head of such rows.
struct QuantisedHead {
  const int32_t* words;
  int64_t row_words;
  int heads, head, width;

  __device__ __forceinline__ QuantisedHead(const void* pool, const FlashInput& in, int head_)
      : words(static_cast<const int32_t*>(pool)), row_words(quantised_words(in.width, in.heads)), heads(in.heads), head(head_), width(in.head_width) {}

  __device__ __forceinline__ float scale(int64_t row) const { return __int_as_float(words[row * row_words + head]); }
  // 4 numbers from `column` of the head on; zeros behind its last.
  __device__ __forceinline__ uint32_t numbers(int64_t row, int column) const {
    const int64_t at = int64_t{head} * width + column;
    const int32_t* first = words + row * row_words + heads;
    if (width % 4 == 0) return column < width ? static_cast<uint32_t>(first[at / 4]) : 0;
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (column + i < width) word |= uint32_t{reinterpret_cast<const uint8_t*>(first)[at + i]} << (8 * i);
    return word;
  }
};

// Number i of a word, exactly: 2^23 + 128 more than it is, a float whose last byte is that number with its sign turned.
__device__ __forceinline__ float number_of(uint32_t word, int i) {
  return __uint_as_float(0x4b000000u | ((word ^ 0x80808080u) >> (8 * i) & 0xffu)) - 8388736.f;
}

// The share that a thread of a block has of a tile, kCount chunks of 16 bytes at a time.
template <class T, int kRows, int kColumns, int kCount>
struct QuantisedChunks {
  static constexpr int kChunk = 16 / sizeof(T), kChunks = kColumns / kChunk, kWords = kChunk / 4;
  static constexpr int kBatches = kRows * kChunks / kTileThreads / kCount;
  static_assert(kBatches * kCount * kTileThreads == kRows * kChunks, "every thread has as many chunks");
  float scale[kCount];
  uint32_t words[kCount][kWords];

  // row_of(i): the row of the pool that row i of the tile holds; negative: zeros.
  template <class RowOf>
  __device__ __forceinline__ void fetch(const QuantisedHead& from, int batch, RowOf&& row_of) {
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int i = place(batch, n), column = i % kChunks * kChunk;
      const int64_t row = row_of(i / kChunks);
      const bool there = row >= 0 && column < from.width;
      scale[n] = there ? from.scale(row) : 0.f;
#pragma unroll
      for (int w = 0; w < kWords; ++w) words[n][w] = there ? from.numbers(row, column + 4 * w) : 0;
    }
  }
  __device__ __forceinline__ void put(Tile<T, kRows, kColumns>& tile, int batch) const {
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int i = place(batch, n);
      float v[kChunk];
#pragma unroll
      for (int k = 0; k < kChunk; ++k) v[k] = scale[n] * number_of(words[n][k / 4], k % 4);
      uint4 chunk;
      if constexpr (sizeof(T) == 2) chunk = make_uint4(pack<T>(v[0], v[1]), pack<T>(v[2], v[3]), pack<T>(v[4], v[5]), pack<T>(v[6], v[7]));
      else chunk = make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
      *reinterpret_cast<uint4*>(tile.chunk(i / kChunks, i % kChunks)) = chunk;
    }
  }

 private:
  __device__ __forceinline__ static int place(int batch, int n) { return static_cast<int>(threadIdx.x) + (batch * kCount + n) * kTileThreads; }
};

// What a block's next tiles of keys and values are made of. Heads of up to 64 columns are fetched a tile ahead; of wider ones, whose
// sums leave no registers for that, the chunks are fetched four at a time once the products are done.
template <class T, int kRows, int kColumns>
struct QuantisedStage {
  static constexpr bool kAhead = kColumns <= 64;
  static constexpr int kEach = kRows * kColumns * static_cast<int>(sizeof(T)) / 16 / kTileThreads;
  using Chunks = QuantisedChunks<T, kRows, kColumns, kAhead ? kEach : 4>;
  Chunks k, v;

  template <class KRow, class VRow>
  __device__ __forceinline__ void begin(const FlashInput& in, const FlashKeys& keys, int head, KRow&& k_row, VRow&& v_row) {
    if constexpr (kAhead) k.fetch({keys.k, in, head}, 0, k_row), v.fetch({keys.v, in, head}, 0, v_row);
  }
  template <class Stage, class KRow, class VRow>
  __device__ __forceinline__ void finish(Stage& to, const FlashInput& in, const FlashKeys& keys, int head, KRow&& k_row, VRow&& v_row) {
    if constexpr (kAhead) {
      k.put(to.k, 0), v.put(to.v, 0);
    } else {
#pragma unroll 1
      for (int b = 0; b < Chunks::kBatches; ++b) {
        k.fetch({keys.k, in, head}, b, k_row), k.put(to.k, b);
        v.fetch({keys.v, in, head}, b, v_row), v.put(to.v, b);
      }
    }
  }
};

}  // namespace longer::cuda
