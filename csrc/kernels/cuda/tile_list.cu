// One block sorts the requests by the cost of a tile, in classes of 64 rows, and lists their tiles. Requests of a class come in
// any order: results do not depend on where a tile is listed.
#include "kernels/cuda/tile_list.h"

namespace longer::cuda {

namespace {

constexpr int kThreads = 256, kClasses = 64;

struct ListShared {
  int tiles[kClasses];  // of a class
  int next[kClasses];   // where the class goes on
};

struct Requests {
  const int32_t* rows;
  Counts cost;
  int64_t count;
  int pitch;
  __device__ int tiles(int64_t r) const {
    return static_cast<int>(((rows[r + 1] - rows[r]) * static_cast<int64_t>(pitch) + kTileRows - 1) / kTileRows);
  }
  __device__ int class_of(int64_t r) const { return kClasses - 1 - max(0, min(cost.count(r) / kTileRows, kClasses - 1)); }  // 0: the longest
};

__global__ void __launch_bounds__(kThreads) list_tiles_kernel(Requests requests, TileList list) {
  ListShared& shared = shared_memory<ListShared>();
  const int thread = threadIdx.x;
  if (thread < kClasses) shared.tiles[thread] = 0;
  __syncthreads();
  for (int64_t r = thread; r < requests.count; r += kThreads) atomicAdd(&shared.tiles[requests.class_of(r)], requests.tiles(r));
  __syncthreads();
  int before = 0, all = 0;
  for (int c = 0; c < kClasses; ++c) {
    if (c < thread) before += shared.tiles[c];
    all += shared.tiles[c];
  }
  if (thread < kClasses) shared.next[thread] = before;
  __syncthreads();
  for (int64_t r = thread; r < requests.count; r += kThreads) {
    const int tiles = requests.tiles(r), first = atomicAdd(&shared.next[requests.class_of(r)], tiles);
    list.first[r] = first;
    for (int i = 0; i < tiles; ++i) list.items[first + i] = {static_cast<int32_t>(r), tiles - 1 - i};  // causal: the last sees most
  }
  for (int64_t i = all + thread; i < list.most; i += kThreads) list.items[i] = {-1, 0};
}

}  // namespace

void list_tiles(const Queue& queue, const char* name, const int32_t* row_offsets, int pitch, Counts cost, int64_t requests,
                const TileList& list) {
  if (list.most == 0) return;
  launch(queue.stream, name, list_tiles_kernel, dim3(1), dim3(kThreads), sizeof(ListShared), Requests{row_offsets, cost, requests, pitch}, list);
}

}  // namespace longer::cuda
