// What the warps of a block share in inner_transformer_dx (inner_transformer_dx.cu): who has which rows and units, and tiles of factors.
#pragma once
#include "kernels/cuda/inner_transformer.cuh"

namespace longer::cuda {

namespace {

// Where gradients of parameters stand in a part: in the order of the parameters.
constexpr int part_offset(int parameter, int width) {
  int offset = 0;
  for (int i = 0; i < parameter; ++i) offset += static_cast<int>(inner_parameter_size(i, width));
  return offset;
}
template <int kParameter, int D>
constexpr int kOffset = part_offset(kParameter, D);

template <int D>
struct Share {
  static constexpr int kWarps = kInnerWarps<D>, kRows = kInnerRows * kWarps, kSteps = D / 16;
  static constexpr int kUnits = 4 * D / kWarps, kUnitTiles = kUnits / 16;  // hidden units of a warp
  static constexpr int kBands = 4 * kSteps / kWarps;                       // of 16 rows of a D x D gradient
  static constexpr int kPart = part_offset(kInnerParameters, D);
  static constexpr int kColumns = D / Places<D>::kRun;                     // of a vector's gradient that a lane has
};

template <class T, int D>
struct FfnTiles {
  Tile<T, Share<D>::kRows, D> n, dy;       // by places
  Tile<T, 4 * D, Share<D>::kRows> dpre;    // transposed
};
template <class T, int D>
struct AttentionTiles {
  // q, k and v become their gradients; norm(x), by places, comes after the gradient of what attention gives.
  enum { kQ, kK, kV, kDr, kGiven, kDGiven, kNormed = kDGiven, kTiles };
  Tile<T, Share<D>::kRows, D> of[kTiles];
  Tile<T, kInnerRows, Share<D>::kRows> p, ds;  // of one head
};
template <class T, int D>
struct DxShared {
  InnerAttentionWeights<T, D> attention;
  InnerFfnWeights<T, D> ffn;
  union {
    FfnTiles<T, D> ffn_tiles;
    AttentionTiles<T, D> attention_tiles;
    float vectors[Share<D>::kWarps][D];
  };
};

// 16 rows from row0 on, 16 columns from column0 on.
template <class T, int kRows, int kColumns>
__device__ __forceinline__ void put_factor(Tile<T, kRows, kColumns>& tile, int row0, int column0, const Left<T>& f) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) *reinterpret_cast<uint32_t*>(&tile.element(row0 + g + i % 2 * 8, column0 + i / 2 * 8 + 2 * t)) = f.pair[i];
}

// Adds the columns' sums over the rows of the tile, a run at a time; this lane has the one at place_held of each. value(j, r) is the element of sums.
template <int D, class Value>
__device__ __forceinline__ void add_columns(float (&sums)[Share<D>::kColumns], Value&& value) {
  constexpr int kCount = Places<D>::kRun / 4;  // of the run in this lane's rows
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int run = 0; run < Share<D>::kColumns; ++run) {
    float w[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) w[i] = value(run * kCount / 2 + i / 2, i % 2) + value(run * kCount / 2 + i / 2, 2 + i % 2);
    int count = kCount;
#pragma unroll
    for (int by = 16; by >= 4; by /= 2) {
      if (count == 1) {
        w[0] += __shfl_xor_sync(0xffffffffu, w[0], by);
        continue;
      }
      count /= 2;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i)
        if (i < count) {
          const float mine = lane & by ? w[i + count] : w[i], theirs = lane & by ? w[i] : w[i + count];
          w[i] = mine + __shfl_xor_sync(0xffffffffu, theirs, by);
        }
    }
    sums[run] += w[0];
  }
}
template <int D>
__device__ __forceinline__ int place_held(int run) {
  const int lane = threadIdx.x % 32;
  int index = 0;
  for (int by = 16, count = Places<D>::kRun / 4; by >= 4 && count > 1; by /= 2) count /= 2, index += lane & by ? count : 0;
  return run * Places<D>::kRun + index / 2 * 8 + lane % 4 * 2 + index % 2;
}

// A vector's gradient of the block: of all its warps, in ascending order. The block calls it, and has met before.
template <int D>
__device__ __forceinline__ void store_vector(float* to, const float (&sums)[Share<D>::kColumns], float (&shared)[Share<D>::kWarps][D]) {
#pragma unroll
  for (int i = 0; i < Share<D>::kColumns; ++i) shared[threadIdx.x / 32][place_held<D>(i)] = sums[i];  // D = 16: by two lanes, the same
  __syncthreads();
  for (int c = threadIdx.x; c < D; c += blockDim.x) {
    float total = 0;
    for (int w = 0; w < Share<D>::kWarps; ++w) total += shared[w][Places<D>::place_of(c)];
    to[c] = total;
  }
  __syncthreads();
}

// dn, the gradient of norm's result, to that of its argument h, which is lost.
template <int D>
__device__ __forceinline__ void through_norm(float (&dn)[D / 8][4], float (&h)[D / 8][4], const RowStatistics& s, const float* gamma, bool rms,
                                             float (&dgamma)[Share<D>::kColumns], float (&dbeta)[Share<D>::kColumns]) {
  constexpr int N = D / 8;
#pragma unroll
  for (int j = 0; j < N; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) h[j][r] = (h[j][r] - s.mean[r / 2]) * s.rstd[r / 2];
  add_columns<D>(dbeta, [&](int j, int r) { return dn[j][r]; });
  add_columns<D>(dgamma, [&](int j, int r) { return dn[j][r] * h[j][r]; });
  float mean_g[2] = {}, mean_gh[2] = {};
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float2 by = pair_at(gamma, j);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      dn[j][r] *= r % 2 ? by.y : by.x;
      mean_g[r / 2] += dn[j][r], mean_gh[r / 2] += dn[j][r] * h[j][r];
    }
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    mean_g[row] = rms ? 0.f : quad_sum(mean_g[row]) * (1.f / D);
    mean_gh[row] = quad_sum(mean_gh[row]) * (1.f / D);
  }
#pragma unroll
  for (int j = 0; j < N; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) dn[j][r] = s.rstd[r / 2] * (dn[j][r] - mean_g[r / 2] - h[j][r] * mean_gh[r / 2]);
}

}  // namespace

}  // namespace longer::cuda
