// Parameters of inner_transformer (kernels/inner_transformer.h) in shared memory, matrices in the type T that is multiplied, and the order of their columns.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/inner_transformer.h"

namespace longer::cuda {

constexpr int kInnerRows = 16;      // of a warp's tile
constexpr int kInnerMostBlocks = 264;  // two for each multiprocessor of a H100; a constant, so that sums are the same on every GPU

// Warps of a block: with so many, each has 16 of the 4 D hidden units and 16 rows of one D x D matrix's gradient.
template <int D>
constexpr int kInnerWarps = D == 16 ? 4 : 8;

struct InnerShape {
  const int32_t* event_offsets;
  int requests, rows;  // as many as the offsets, which are i32, can tell
  int group, tile_rows;  // groups of events of a tile, and how many events: the groups that 16 hold
  int heads, head_width;
  bool rms, outer;
  float scale, eps;
};

struct InnerParameters {
  const float* of[kInnerParameters];
};

// Where column c of a row stands: a lane's 2 kLane neighbours, of a run of 8 kLane columns, at places 2 t, 2 t + 1 of kLane tiles of 8.
template <int D>
struct Places {
  static constexpr int kRun = D < 32 ? D : 32, kEach = kRun / 4;  // columns of a run, and of a lane in it
  static __device__ __forceinline__ int place_of(int c) { return c / kRun * kRun + c % kEach / 2 * 8 + c % kRun / kEach * 2 + c % 2; }
  static __device__ __forceinline__ int column_of(int p) { return p / kRun * kRun + p % 8 / 2 * kEach + p % kRun / 8 * 2 + p % 2; }
};

template <class T, int D>
struct InnerAttentionWeights {
  Tile<T, D, D> q, k, v, o;  // rows of q, k, v and columns of o by places
  float gamma[D], beta[D], bo[D];  // by places
  float bq[D], bk[D], bv[D];
};

template <class T, int D>
struct InnerFfnWeights {
  Tile<T, D, 4 * D> up;    // rows by places
  Tile<T, 4 * D, D> down;  // columns by places
  float gamma[D], beta[D], b2[D];  // by places
  float b1[4 * D];
};

template <class T, int D, bool kRowsByPlace, bool kColumnsByPlace, int kRows, int kColumns>
__device__ __forceinline__ void load_matrix(Tile<T, kRows, kColumns>& to, const float* from) {
  const bool vector = reinterpret_cast<uintptr_t>(from) % 16 == 0;
  for (int i = threadIdx.x; i < kRows * kColumns / kPack; i += blockDim.x) {
    const int row = i / (kColumns / kPack), column = i % (kColumns / kPack) * kPack;
    float v[kPack];
    load_pack(v, from + row * kColumns + column, kPack, vector);
#pragma unroll
    for (int e = 0; e < kPack; e += 2)
      to.put(kRowsByPlace ? Places<D>::place_of(row) : row, kColumnsByPlace ? Places<D>::place_of(column + e) : column + e, v[e], v[e + 1]);
  }
}

template <int D, bool kByPlace, int kSize>
__device__ __forceinline__ void load_vector(float (&to)[kSize], const float* from) {
  for (int i = threadIdx.x; i < kSize; i += blockDim.x) to[kByPlace ? Places<D>::place_of(i) : i] = from ? from[i] : 0.f;
}

// By the whole block, which has to meet before they are used.
template <class T, int D>
__device__ __forceinline__ void load_weights(InnerAttentionWeights<T, D>& w, const InnerParameters& p) {
  load_matrix<T, D, true, false>(w.q, p.of[kWq]);
  load_matrix<T, D, true, false>(w.k, p.of[kWk]);
  load_matrix<T, D, true, false>(w.v, p.of[kWv]);
  load_matrix<T, D, false, true>(w.o, p.of[kWo]);
  load_vector<D, true>(w.gamma, p.of[kGamma1]);
  load_vector<D, true>(w.beta, p.of[kBeta1]);
  load_vector<D, true>(w.bo, p.of[kBo]);
  load_vector<D, false>(w.bq, p.of[kBq]);
  load_vector<D, false>(w.bk, p.of[kBk]);
  load_vector<D, false>(w.bv, p.of[kBv]);
}
template <class T, int D>
__device__ __forceinline__ void load_weights(InnerFfnWeights<T, D>& w, const InnerParameters& p) {
  load_matrix<T, D, true, false>(w.up, p.of[kW1]);
  load_matrix<T, D, false, true>(w.down, p.of[kW2]);
  load_vector<D, true>(w.gamma, p.of[kGamma2]);
  load_vector<D, true>(w.beta, p.of[kBeta2]);
  load_vector<D, true>(w.b2, p.of[kB2]);
  load_vector<D, false>(w.b1, p.of[kB1]);
}

}  // namespace longer::cuda
