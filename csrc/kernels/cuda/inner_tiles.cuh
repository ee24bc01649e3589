// The tiles of events that warps take through inner_transformer, and their rows in memory.
#pragma once
#include "kernels/cuda/inner_weights.cuh"

namespace longer::cuda {

// Requests have slots for their tiles: one with its first event at row o has those from o / tile_rows + request on, which are
// enough and are no other's. Slots without a tile have no rows.
inline int64_t inner_slots(const InnerShape& s) { return int64_t{s.rows / s.tile_rows} + s.requests; }

struct InnerTile {
  int row0;         // of the batch, at row 0 of the tile; may be before the first
  unsigned events;  // bit i: row i of the tile is one
};

// Finds the tiles of slots that come in ascending order.
class InnerTiles {
 public:
  __device__ __forceinline__ InnerTiles(const InnerShape& s, int slot) : s_(s) {
    int low = 0, high = s.requests;  // first_slot(low) <= slot < first_slot(high)
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      if (first_slot(middle) <= slot) low = middle;
      else high = middle;
    }
    request_ = low;
  }
  __device__ __forceinline__ InnerTile at(int slot) {
    while (request_ + 1 < s_.requests && first_slot(request_ + 1) <= slot) ++request_;
    const int begin = s_.event_offsets[request_], end = s_.event_offsets[request_ + 1];
    const int row0 = end - (slot - first_slot(request_) + 1) * s_.tile_rows;
    if (row0 + s_.tile_rows <= begin) return {0, 0};
    return {row0, (1u << s_.tile_rows) - (1u << max(begin - row0, 0))};
  }

 private:
  __device__ __forceinline__ int first_slot(int request) const { return s_.event_offsets[request] / s_.tile_rows + request; }

  const InnerShape& s_;
  int request_;
};

// Whether a row of a tile is an event.
__device__ __forceinline__ bool is_event(const InnerTile& tile, int row) { return tile.events >> row & 1; }

// visit(whether the row is an event, where its columns of run i begin in a matrix, j of the first sums, 0 or 2: which of the sums)
template <int D, class Visit>
__device__ __forceinline__ void each_run(const InnerTile& tile, Visit&& visit) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < 4; r += 2)
#pragma unroll
    for (int run = 0; run < D; run += Places<D>::kRun) {
      const int row = g + 4 * r;
      visit(is_event(tile, row), static_cast<int64_t>(tile.row0 + row) * D + run + t * Places<D>::kEach, run / 8, r);
    }
}

// Rows that are no events are zeros.
template <class T, int D>
__device__ __forceinline__ void load_rows(float (&v)[D / 8][4], const T* from, const InnerTile& tile) {
  each_run<D>(tile, [&](bool there, int64_t at, int j, int r) {
    constexpr int kEach = Places<D>::kEach;
    uint32_t words[kEach / 2] = {};
    if (there) {
      if constexpr (kEach == 8) {
        const uint4 raw = ptx::load_global_16(from + at);
        words[0] = raw.x, words[1] = raw.y, words[2] = raw.z, words[3] = raw.w;
      } else {
#pragma unroll
        for (int i = 0; i < kEach / 2; ++i) words[i] = reinterpret_cast<const uint32_t*>(from + at)[i];
      }
    }
#pragma unroll
    for (int i = 0; i < kEach / 2; ++i) {
      const float2 pair = unpack<T>(words[i]);
      v[j + i][r] = pair.x, v[j + i][r + 1] = pair.y;
    }
  });
}

template <class T, int D>
__device__ __forceinline__ void add_rows(float (&v)[D / 8][4], const T* from, const InnerTile& tile) {
  float other[D / 8][4];
  load_rows<T, D>(other, from, tile);
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) v[j][r] += other[j][r];
}

template <class T, int D>
__device__ __forceinline__ void store_rows(T* to, const float (&v)[D / 8][4], const InnerTile& tile) {
  each_run<D>(tile, [&](bool there, int64_t at, int j, int r) {
    constexpr int kEach = Places<D>::kEach;
    if (!there) return;
    uint32_t words[kEach / 2];
#pragma unroll
    for (int i = 0; i < kEach / 2; ++i) words[i] = pack<T>(v[j + i][r], v[j + i][r + 1]);
    if constexpr (kEach == 8) {
      ptx::store_global_16(to + at, make_uint4(words[0], words[1], words[2], words[3]));
    } else {
#pragma unroll
      for (int i = 0; i < kEach / 2; ++i) reinterpret_cast<uint32_t*>(to + at)[i] = words[i];
    }
  });
}

}  // namespace longer::cuda
