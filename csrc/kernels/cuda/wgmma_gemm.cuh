// The product of two matrices on Hopper (sm_90a), d[m, n] = sum over k of a[m, k] b[k, n], of 2-byte elements summed in f32.
// There is a block for each multiprocessor; they go through tiles of kTileRows x kColumns of d, columns first, so that those who share
// rows of a run at the same time. In a block one thread of a producer warpgroup asks TMA for slabs of 64 of the depth, in
// a ring of stages that never empties between tiles; two consumer warpgroups have 64 rows each, multiply a slab while the next
// ones come, and finish their tile while the producer is at the next.
//
// An element is one chain over the depth, ascending by 16 from its part's first. Where its tile lies, who computes it and what else is in
// the launch changes nothing. What lies outside a matrix is read as zeros, and nothing outside is written.
#pragma once
#include <type_traits>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/values.cuh"

#if defined(LONGER_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LONGER_WGMMA 1
#endif

namespace longer::cuda::wgmma {

constexpr int kTileRows = 128, kSlab = 64;  // a slab's rows are 128 bytes: what the swizzle spans
constexpr int kWarpgroup = 128, kConsumers = 2, kThreads = (kConsumers + 1) * kWarpgroup;
constexpr int kConsumerWarps = kConsumers * kWarpgroup / 32;
constexpr int kAtomRows = 8, kAtomBytes = kAtomRows * 128;  // what a swizzle repeats after

// A block has a multiprocessor to itself. setmaxnreg moves registers from the producer to the consumers, who keep a tile's sums in them.
constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8, kProducerRegisters = 40, kConsumerRegisters = 232;
static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (kConsumers + 1) * kLaunchRegisters, "there is no more than what the block began with");

// Sums of a warp on their way from the order of wgmma to rows. The pitch spreads the rows of a store over all banks.
struct Staging {
  static constexpr int kColumns = 32;
  alignas(16) float row[16][kColumns + 8];
};

template <int kColumns>
struct Shared {
  static constexpr int kStages = kColumns == 256 ? 4 : kColumns == 128 ? 6 : 8;
  alignas(1024) uint16_t a[kStages][kTileRows * kSlab];
  alignas(1024) uint16_t b[kStages][kColumns * kSlab];
  Staging staging[kConsumerWarps];
  uint64_t full[kStages], empty[kStages];
};
static_assert(sizeof(Shared<256>) <= 227 * 1024 && sizeof(Shared<128>) <= 227 * 1024 && sizeof(Shared<64>) <= 227 * 1024, "a block has no more");

struct Shape {
  int64_t rows, columns;       // of d
  int64_t depth, depth_each;   // of a part of d, a multiple of a slab where there are several
  int64_t row_tiles, column_tiles, tiles;  // of all parts
};

struct TileAt {
  int64_t row, part, depth;  // the first ones
  int column, slabs;
};

template <int kColumns>
__device__ __forceinline__ TileAt tile_at(const Shape& shape, int64_t tile) {
  const int64_t rest = tile / shape.column_tiles, part = rest / shape.row_tiles, first = part * shape.depth_each;
  const int64_t last = min(first + shape.depth_each, shape.depth);
  return {rest % shape.row_tiles * kTileRows, part, first, static_cast<int>(tile % shape.column_tiles) * kColumns, static_cast<int>((last - first + kSlab - 1) / kSlab)};
}

// Where in the ring a warp is; `parity` is that of the phase in which the stage is filled.
template <int kStages>
struct RingPlace {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
  __device__ __forceinline__ int before() const { return (stage ? stage : kStages) - 1; }
};

#ifdef LONGER_WGMMA

// An operand's slab lies in shared memory as TMA left it: lines of 128 bytes, either a line a row with the slab's depth in it, or
// (transposed: its rows are contiguous in global memory) a line a step of depth with 64 rows in it, and 64 lines to the next 64 rows.
template <bool kTransposed>
struct OperandSlab {
  static constexpr int kDepthBytes = kTransposed ? 16 * 128 : 16 * 2;  // to the next 16 of depth
  static constexpr int kLines = kSlab;                                 // of a transposed box
  __device__ static __forceinline__ uint64_t descriptor(const uint16_t* at) {
    return matrix_descriptor(ptx::shared_address(at), kTransposed ? kLines * 128 : 16, kAtomBytes, Swizzle::b128);
  }
  template <int kRows>
  __device__ static __forceinline__ void load(uint16_t* to, const TensorMap* map, uint64_t* full, int row, int depth) {
    if constexpr (kTransposed) {
#pragma unroll
      for (int r = 0; r < kRows; r += 64) ptx::tma_load_2d(to + r * kLines, map, full, row + r, depth);
    } else {
      ptx::tma_load_2d(to, map, full, depth, row);
    }
  }
};

template <class T, bool kTransposeA, bool kTransposeB, int kCount>
__device__ __forceinline__ void multiply(float (&d)[kCount], uint64_t a, uint64_t b, bool add) {
  if constexpr (std::is_same_v<T, Bf16>) ptx::wgmma_bf16<kTransposeA, kTransposeB>(d, a, b, add);
  else ptx::wgmma_f16<kTransposeA, kTransposeB>(d, a, b, add);
}

// By one thread.
template <bool kTransposeA, bool kTransposeB, int kColumns>
__device__ __forceinline__ void produce(Shared<kColumns>& shared, const TensorMap* map_a, const TensorMap* map_b, const Shape& shape) {
  RingPlace<Shared<kColumns>::kStages> place;
  for (int64_t tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x) {
    const TileAt at = tile_at<kColumns>(shape, tile);
    for (int s = 0; s < at.slabs; ++s, place.advance()) {
      uint64_t* full = &shared.full[place.stage];
      ptx::mbarrier_wait(&shared.empty[place.stage], place.parity ^ 1);  // passes at once in the first round
      ptx::mbarrier_arrive_expect(full, sizeof shared.a[0] + sizeof shared.b[0]);
      const int depth = static_cast<int>(at.depth) + s * kSlab;
      OperandSlab<kTransposeA>::template load<kTileRows>(shared.a[place.stage], map_a, full, static_cast<int>(at.row), depth);
      OperandSlab<kTransposeB>::template load<kColumns>(shared.b[place.stage], map_b, full, at.column, depth);
    }
  }
}

// The sums of this warpgroup's rows of a tile. A stage is given back when the products that read it are known to be done.
template <class T, bool kTransposeA, bool kTransposeB, int kColumns>
__device__ __forceinline__ void sum_tile(float (&sums)[kColumns / 2], Shared<kColumns>& shared, RingPlace<Shared<kColumns>::kStages>& place, int slabs) {
  const int group = threadIdx.x / kWarpgroup;
  const auto give_back = [&](int stage) {
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&shared.empty[stage]);
  };
  for (int s = 0; s < slabs; ++s, place.advance()) {
    ptx::mbarrier_wait(&shared.full[place.stage], place.parity);
    const uint64_t a = OperandSlab<kTransposeA>::descriptor(shared.a[place.stage] + group * 64 * kSlab);
    const uint64_t b = OperandSlab<kTransposeB>::descriptor(shared.b[place.stage]);
    ptx::wgmma_keep(sums);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kSlab / 16; ++k)  // addresses of descriptors count in 16 bytes
      multiply<T, kTransposeA, kTransposeB>(sums, a + k * (OperandSlab<kTransposeA>::kDepthBytes >> 4), b + k * (OperandSlab<kTransposeB>::kDepthBytes >> 4), s > 0 || k > 0);
    ptx::wgmma_commit();
    ptx::wgmma_keep(sums);
    if (s > 0) {
      ptx::wgmma_wait<1>();
      give_back(place.before());
    }
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(sums);
  give_back(place.before());
}

// Columns 32 i .. 32 i + 31 of the tile's sums, as wgmma leaves them.
template <int kCount>
__device__ __forceinline__ void stage_columns(Staging& staging, const float (&sums)[kCount], int i) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int c = 0; c < kCount / 16; ++c) {  // registers have no index at run time
    if (c != i) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r) ptx::store_shared_2(&staging.row[g + 8 * r][8 * j + 2 * t], sums[16 * c + 4 * j + 2 * r], sums[16 * c + 4 * j + 2 * r + 1]);
  }
}

// A pack of 8 columns. Rows of the lanes that read together take its halves in turn, so that they meet different banks.
__device__ __forceinline__ void read_staged(float (&v)[kPack], const Staging& staging, int row, int column) {
  const int swap = row & 1;
  const float4 first = ptx::load_shared_4(&staging.row[row][column + 4 * swap]), second = ptx::load_shared_4(&staging.row[row][column + 4 * (swap ^ 1)]);
  const float4 low = swap ? second : first, high = swap ? first : second;
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

// What follows the product, for 8 neighbours at a time: two a lane for 32 columns of a warp's 16 rows. What it reads is fetched 32 columns ahead.
template <int kColumns, class Finish>
struct TileEnd {
  const Shape& shape;
  const Finish& finish;
  TileAt at;
  int64_t row;       // of the warp
  typename Finish::Ahead ahead[2];

  __device__ __forceinline__ TileEnd(const Shape& of, const Finish& with, const TileAt& tile) : shape(of), finish(with), at(tile), row(tile.row + threadIdx.x / 32 * 16) {
    fetch(0, 0), fetch(1, 0);
  }
  __device__ __forceinline__ int lane_row(int half) const { return 8 * half + static_cast<int>(threadIdx.x) % 32 / 4; }
  __device__ __forceinline__ int lane_column() const { return static_cast<int>(threadIdx.x) % 4 * kPack; }
  __device__ __forceinline__ bool inside(int half, int column) const { return row + lane_row(half) < shape.rows && at.column + column < shape.columns; }

  __device__ __forceinline__ void fetch(int half, int column) {
    if (inside(half, column + lane_column())) ahead[half] = finish.fetch(row + lane_row(half), at.column + column + lane_column());
  }

  __device__ __forceinline__ void run(const float (&sums)[kColumns / 2], Staging& staging) {
    constexpr int kStep = Staging::kColumns;
    const int columns = static_cast<int>(min(static_cast<int64_t>(kColumns), shape.columns - at.column));
#pragma unroll 1
    for (int c = 0; c < columns; c += kStep) {
      __syncwarp();  // what was staged before is read
      stage_columns(staging, sums, c / kStep);
      __syncwarp();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float v[kPack];
        read_staged(v, staging, lane_row(half), lane_column());
        const typename Finish::Ahead now = ahead[half];
        if (c + kStep < columns) fetch(half, c + kStep);
        if (inside(half, c + lane_column())) finish.pack(row + lane_row(half), at.column + c + lane_column(), at.part, v, now);
      }
    }
  }
};

#endif

// Finish: fetch(row, column) reads what the pack there needs beside its sums, pack(row, column, part, sums, what was fetched) ends it.
template <class T, bool kTransposeA, bool kTransposeB, int kColumns, class Finish>
__global__ void __launch_bounds__(kThreads, 1)
wgmma_kernel(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, Shape shape, Finish finish) {
#ifdef LONGER_WGMMA
  auto& shared = shared_memory<Shared<kColumns>>();
  if (threadIdx.x == 0) {
    for (int s = 0; s < Shared<kColumns>::kStages; ++s) {
      ptx::mbarrier_init(&shared.full[s], 1);
      ptx::mbarrier_init(&shared.empty[s], kConsumerWarps);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x >= kConsumers * kWarpgroup) {
    ptx::registers_shrink<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroup) produce<kTransposeA, kTransposeB>(shared, &map_a, &map_b, shape);
  } else {
    ptx::registers_grow<kConsumerRegisters>();
    RingPlace<Shared<kColumns>::kStages> place;
    float sums[kColumns / 2];
    for (int64_t tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x) {
      const TileAt at = tile_at<kColumns>(shape, tile);
      TileEnd<kColumns, Finish> end(shape, finish, at);
      sum_tile<T, kTransposeA, kTransposeB>(sums, shared, place, at.slabs);
      end.run(sums, shared.staging[threadIdx.x / 32]);
    }
  }
#elif defined(__CUDA_ARCH__)
  __trap();  // never launched where it has no code (Gpu::wgmma)
#endif
}

// A row-major matrix of 2-byte elements: [rows, depth], or, transposed, [depth, rows].
struct Matrix {
  const void* data;
  int64_t rows, depth;
};

template <bool kTransposed>
TensorMap map_of(const Matrix& m, int box_rows) {
  if (kTransposed) return tensor_map_2d(m.data, m.depth, m.rows, 2 * m.rows, kSlab, 64, Swizzle::b128);
  return tensor_map_2d(m.data, m.rows, m.depth, 2 * m.depth, box_rows, kSlab, Swizzle::b128);
}

// d of a.rows x b.rows, in parts of `depth_each` of the depth.
template <class T, bool kTransposeA, bool kTransposeB, int kColumns, class Finish>
void gemm(Stream stream, const char* name, const Matrix& a, const Matrix& b, int64_t depth_each, const Finish& finish) {
  Shape shape{a.rows, b.rows, a.depth, depth_each, divide_up(a.rows, kTileRows), divide_up(b.rows, kColumns), 0};
  shape.tiles = shape.row_tiles * shape.column_tiles * divide_up(a.depth, depth_each);
  if (shape.tiles == 0) return;
  const int64_t blocks = std::min<int64_t>(shape.tiles, current_gpu().processors);
  launch(stream, name, wgmma_kernel<T, kTransposeA, kTransposeB, kColumns, Finish>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(Shared<kColumns>),
         map_of<kTransposeA>(a, kTileRows), map_of<kTransposeB>(b, kColumns), shape, finish);
}

}  // namespace longer::cuda::wgmma
