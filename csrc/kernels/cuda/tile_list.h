// The tiles of rows of a batch's requests, listed on the device: how many there are is known there only.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace longer::cuda {

constexpr int kTileRows = 64;

// How many each request has of something: by offsets, or by pairs of the first and their number.
struct Counts {
  const int32_t* list;
  bool pairs;

  __device__ __forceinline__ int count(int64_t r) const { return pairs ? list[2 * r + 1] : list[r + 1] - list[r]; }
};

struct TileItem {
  int32_t request;  // negative: none
  int32_t tile;     // rows [64 tile, 64 tile + 64) of the request's
};

struct TileList {
  TileItem* items;
  int32_t* first;  // of a request: where its items begin
  int64_t most;    // items that there is room for: tiles, and the rest none
};

// Most tiles of so many rows in so many requests.
inline int64_t most_tiles(int64_t rows, int64_t requests) { return rows / kTileRows + requests; }

// Rows of request r: (row_offsets[r + 1] - row_offsets[r]) * pitch. Requests whose tiles take longest, those with the largest
// cost, come first, so that no long one starts when the others are done.
void list_tiles(const Queue& queue, const char* name, const int32_t* row_offsets, int pitch, Counts cost, int64_t requests,
                const TileList& list);

}  // namespace longer::cuda
