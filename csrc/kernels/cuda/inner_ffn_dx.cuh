// Steps 1 to 3 of inner_transformer_dx (inner_transformer_dx.cu): back through the FFN, and the gradients of its parameters.
#pragma once
#include "kernels/cuda/inner_shares.cuh"

namespace longer::cuda {

namespace {

template <class T, int D>
struct FfnSums {
  using S = Share<D>;
  float w1[S::kUnitTiles][D / 8][4] = {}, w2[S::kUnitTiles][D / 8][4] = {};  // own units by places
  float b1[S::kUnitTiles][2] = {};
  float gamma[S::kColumns] = {}, beta[S::kColumns] = {}, b2[S::kColumns] = {};

  // Step 2, of the tile in rows row0 on.
  __device__ __forceinline__ void add(FfnTiles<T, D>& tiles, InnerFfnWeights<T, D>& w, int unit0, int row0) {
    const int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int u = 0; u < S::kUnitTiles; ++u) {
      const int unit = unit0 + 16 * u;
      const float low = w.b1[unit + g], high = w.b1[unit + g + 8];
      float pre[2][4] = {{low, low, high, high}, {low, low, high, high}}, dh[2][4] = {};
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) {
        Left<T> weight;
        Right<T> rows;
        load_factor<true>(weight, w.up, unit, 16 * i);
        load_factor<false>(rows, tiles.n, row0, 16 * i);
        multiply(pre, weight, rows);
        load_factor<false>(weight, w.down, unit, 16 * i);
        load_factor<false>(rows, tiles.dy, row0, 16 * i);
        multiply(dh, weight, rows);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          dh[half][r] *= activation_slope(Activation::gelu, pre[half][r]);
          pre[half][r] = activate(Activation::gelu, pre[half][r]);
          b1[u][r / 2] += dh[half][r];
        }
      const Left<T> hidden = left_of<T>(pre), dpre = left_of<T>(dh);
      put_factor(tiles.dpre, unit, row0, dpre);
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) {
        Right<T> rows;
        load_factor<true>(rows, tiles.n, 16 * i, row0);
        multiply(w1[u] + 2 * i, dpre, rows);
        load_factor<true>(rows, tiles.dy, 16 * i, row0);
        multiply(w2[u] + 2 * i, hidden, rows);
      }
    }
  }

  __device__ __forceinline__ void store(float* part, float (&vectors)[S::kWarps][D]) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, unit0 = S::kUnits * (threadIdx.x / 32);
#pragma unroll
    for (int u = 0; u < S::kUnitTiles; ++u)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int unit = unit0 + 16 * u + g + r / 2 * 8;
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
          const int column = Places<D>::column_of(8 * j + 2 * t + r % 2);
          part[kOffset<kW1, D> + column * 4 * D + unit] = w1[u][j][r];
          part[kOffset<kW2, D> + unit * D + column] = w2[u][j][r];
        }
        const float sum = quad_sum(b1[u][r / 2]);
        if (t == 0 && r % 2 == 0) part[kOffset<kB1, D> + unit] = sum;
      }
    store_vector<D>(part + kOffset<kGamma2, D>, gamma, vectors);
    store_vector<D>(part + kOffset<kBeta2, D>, beta, vectors);
    store_vector<D>(part + kOffset<kB2, D>, b2, vectors);
  }
};

// Steps 1 to 3: dr of the warp's tile. The block calls it.
template <class T, int D>
__device__ __forceinline__ void ffn_steps(float (&dr)[D / 8][4], FfnSums<T, D>& sums, DxShared<T, D>& shared, const InnerShape& s, const InnerTile& tile, const T* x, const T* dy) {
  using S = Share<D>;
  FfnTiles<T, D>& tiles = shared.ffn_tiles;
  const int warp = threadIdx.x / 32, own = kInnerRows * warp, unit0 = S::kUnits * warp;
  float r[D / 8][4];
  load_rows<T, D>(r, x, tile);
  add_attention<T, D>(r, shared.attention, s, tile);
  const RowStatistics statistics = row_statistics(r, s.rms, s.eps);
  {
    Left<T> n[S::kSteps];
    normed<T, D>(n, r, statistics, shared.ffn.gamma, shared.ffn.beta);
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) put_factor(tiles.n, own, 16 * i, n[i]);
  }
  load_rows<T, D>(dr, dy, tile);
  add_columns<D>(sums.b2, [&](int j, int r) { return dr[j][r]; });
#pragma unroll
  for (int i = 0; i < S::kSteps; ++i) put_factor(tiles.dy, own, 16 * i, left_of<T>(dr + 2 * i));
  __syncthreads();  // the rows of all warps are there
#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, shared.ffn, unit0, row0);
  __syncthreads();  // and the gradients of all units
  float dn[D / 8][4] = {};
#pragma unroll 1
  for (int unit = 0; unit < 4 * D; unit += 16) {
    Left<T> dpre;
    load_factor<true>(dpre, tiles.dpre, own, unit);
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) {
      Right<T> weight;
      load_factor<false>(weight, shared.ffn.up, 16 * i, unit);
      multiply(dn + 2 * i, dpre, weight);
    }
  }
  through_norm<D>(dn, r, statistics, shared.ffn.gamma, s.rms, sums.gamma, sums.beta);
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) dr[j][i] = dn[j][i];
  add_rows<T, D>(dr, dy, tile);
}

}  // namespace

}  // namespace longer::cuda
