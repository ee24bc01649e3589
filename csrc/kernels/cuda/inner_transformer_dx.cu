// inner_transformer_dx (kernels/inner_transformer.h): the forward pass again and the backward pass of a tile of events, in one
// kernel. The warps of a block take a tile each and go through these steps together:
//
//   1  own tile: r and its norm                                    2  own hidden units, all tiles: the hidden layer's gradient,
//   3  own tile: the gradient dr of r                                 and those of w1, b1, w2, into registers
//   4  own tile: q, k, v again, attention's gradients, dx          5  own rows of wq, wk, wv, wo, all tiles: their gradients
//
// In steps 2 and 5 a factor's rows are all events of the block, so nothing is summed over warps. A block goes on with other
// tiles and leaves the gradients of parameters as its part; a second kernel adds the parts up in ascending order. How many
// there are depends on the shapes alone. Where the gradients of all parameters do not fit into registers (D = 64), r is
// computed by a kernel of its own, steps 1 to 3 and steps 4 and 5 are a kernel each, and r and dr go through memory in f32.
#include "kernels/cuda/inner_transformer.cuh"
#include "kernels/cuda/workspace.h"

namespace longer::cuda {

namespace {

enum Steps { kFfnSteps = 1, kAttentionSteps = 2, kAllSteps = 3 };

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
  static constexpr int kColumns = D <= 32 ? 1 : D / 32;                    // of a vector's gradient that a lane has
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
struct Nothing {};

template <class T, int D, int kSteps>
struct DxShared {
  std::conditional_t<(kSteps & kAttentionSteps) != 0, InnerAttentionWeights<T, D>, Nothing> attention;
  std::conditional_t<(kSteps & kFfnSteps) != 0, InnerFfnWeights<T, D>, Nothing> ffn;
  union {
    std::conditional_t<(kSteps & kFfnSteps) != 0, FfnTiles<T, D>, Nothing> ffn_tiles;
    std::conditional_t<(kSteps & kAttentionSteps) != 0, AttentionTiles<T, D>, Nothing> attention_tiles;
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

// Adds the columns' sums over the rows of the tile; lane l has those at place_held(i).
template <int D>
__device__ __forceinline__ void add_columns(float (&sums)[Share<D>::kColumns], const float (&v)[D / 8][4]) {
  float w[D / 4];
#pragma unroll
  for (int i = 0; i < D / 4; ++i) w[i] = v[i / 2][i % 2] + v[i / 2][2 + i % 2];
  const int lane = threadIdx.x % 32;
  int count = D / 4;
#pragma unroll
  for (int by = 16; by >= 4; by /= 2) {
    if (count == 1) {
      w[0] += __shfl_xor_sync(0xffffffffu, w[0], by);
      continue;
    }
    count /= 2;
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
      if (i < count) {
        const float mine = lane & by ? w[i + count] : w[i], theirs = lane & by ? w[i] : w[i + count];
        w[i] = mine + __shfl_xor_sync(0xffffffffu, theirs, by);
      }
  }
#pragma unroll
  for (int i = 0; i < Share<D>::kColumns; ++i) sums[i] += w[i];
}
template <int D>
__device__ __forceinline__ int place_held(int i) {
  const int lane = threadIdx.x % 32;
  int index = 0;
  for (int by = 16, count = D / 4; by >= 4 && count > 1; by /= 2) count /= 2, index += lane & by ? count : 0;
  index += i;
  return index / 2 * 8 + lane % 4 * 2 + index % 2;
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

// dn, the gradient of norm's result, to that of its argument v.
template <int D>
__device__ __forceinline__ void through_norm(float (&dn)[D / 8][4], const float (&v)[D / 8][4], const RowStatistics& s, const float* gamma, bool rms,
                                             float (&dgamma)[Share<D>::kColumns], float (&dbeta)[Share<D>::kColumns]) {
  constexpr int N = D / 8;
  add_columns<D>(dbeta, dn);
  float h[N][4], product[N][4];
#pragma unroll
  for (int j = 0; j < N; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) h[j][r] = (v[j][r] - s.mean[r / 2]) * s.rstd[r / 2], product[j][r] = dn[j][r] * h[j][r];
  add_columns<D>(dgamma, product);
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

// Rows of f32 to memory or from there.
template <int D>
__device__ __forceinline__ void move_rows(float (&v)[D / 8][4], float* memory, const InnerTile& tile, bool store) {
  each_run<D>(tile, [&](bool there, int64_t at, int j, int r) {
#pragma unroll
    for (int i = 0; i < Places<D>::kEach / 2; ++i) {
      auto* pair = reinterpret_cast<float2*>(memory + at) + i;
      const float2 read = !store && there ? *pair : make_float2(0.f, 0.f);
      if (!store) v[j + i][r] = read.x, v[j + i][r + 1] = read.y;
      else if (there) *pair = make_float2(v[j + i][r], v[j + i][r + 1]);
    }
  });
}

// ---- steps 1 to 3

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

  __device__ __forceinline__ void store(float* part, float (&vectors)[S::kWarps][D], int unit0) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
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
template <class T, int D, bool kThroughMemory, class Shared>
__device__ __forceinline__ void ffn_steps(float (&dr)[D / 8][4], FfnSums<T, D>& sums, Shared& shared, const InnerShape& s, const InnerTile& tile, const T* x, const T* dy, float* memory) {
  using S = Share<D>;
  FfnTiles<T, D>& tiles = shared.ffn_tiles;
  const int warp = threadIdx.x / 32, own = kInnerRows * warp, unit0 = S::kUnits * warp;
  float r[D / 8][4];
  if constexpr (kThroughMemory) {
    move_rows<D>(r, memory, tile, false);
  } else {
    load_rows<T, D>(r, x, tile);
    add_attention<T, D>(r, shared.attention, s, tile);
  }
  const RowStatistics statistics = row_statistics(r, s.rms, s.eps);
  {
    Left<T> n[S::kSteps];
    normed<T, D>(n, r, statistics, shared.ffn.gamma, shared.ffn.beta);
    load_rows<T, D>(dr, dy, tile);
    add_columns<D>(sums.b2, dr);
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) put_factor(tiles.n, own, 16 * i, n[i]), put_factor(tiles.dy, own, 16 * i, left_of<T>(dr + 2 * i));
  }
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
  if constexpr (kThroughMemory) move_rows<D>(r, memory, tile, false);
  through_norm<D>(dn, r, statistics, shared.ffn.gamma, s.rms, sums.gamma, sums.beta);
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) dr[j][i] = dn[j][i];
  add_rows<T, D>(dr, dy, tile);
}

// ---- steps 4 and 5

template <class T, int D>
struct KeepRows {
  static constexpr bool kWanted = true;
  AttentionTiles<T, D>& tiles;
  int row0;
  __device__ __forceinline__ void q(int i, const Left<T>& f) const { put_factor(tiles.of[tiles.kQ], row0, 16 * i, f); }
  __device__ __forceinline__ void k(int i, const Left<T>& f) const { put_factor(tiles.of[tiles.kK], row0, 16 * i, f); }
  __device__ __forceinline__ void v(int i, const Left<T>& f) const { put_factor(tiles.of[tiles.kV], row0, 16 * i, f); }
};

// One head of a tile: its columns of q, k and v become those of their gradients.
template <class T, int D>
__device__ __forceinline__ void head_backward(AttentionTiles<T, D>& tiles, int row0, const InnerHead& head, const InnerSight& sight, float scale) {
  auto &q = tiles.of[tiles.kQ], &k = tiles.of[tiles.kK], &v = tiles.of[tiles.kV], &given = tiles.of[tiles.kDGiven];
  float p[2][4] = {}, dp[2][4] = {};
#pragma unroll
  for (int c = 0; c < D; c += 16)
    if (head.touches(c, 16)) {
      const bool low = head.has_pair(c), high = head.has_pair(c + 8);
      Left<T> rows;
      Right<T> keys;
      load_factor<false>(rows, q, row0, c);
      load_factor<false>(keys, k, row0, c);
      multiply(p, zeros_but(rows, low, high), keys);
      load_factor<false>(rows, given, row0, c);
      load_factor<false>(keys, v, row0, c);
      multiply(dp, zeros_but(rows, low, high), keys);
    }
  softmax(p, sight, scale);
  float ds[2][4];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float delta = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) delta += p[i / 2][2 * row + i % 2] * dp[i / 2][2 * row + i % 2];
    delta = quad_sum(delta);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = 2 * row + i % 2;
      ds[i / 2][r] = p[i / 2][r] * (dp[i / 2][r] - delta) * scale;
    }
  }
  const Left<T> by_rows = left_of<T>(ds);
  put_factor(tiles.p, 0, row0, left_of<T>(p));
  put_factor(tiles.ds, 0, row0, by_rows);
  __syncwarp();  // all lanes' probabilities are there
  Left<T> p_by_keys, by_keys;
  load_factor<true>(p_by_keys, tiles.p, row0, 0);
  load_factor<true>(by_keys, tiles.ds, row0, 0);
#pragma unroll 1
  for (int c = head.first / 16 * 16; c < head.end; c += 16) {
    float dq[2][4] = {}, dk[2][4] = {}, dv[2][4] = {};
    Right<T> rows;
    load_factor<true>(rows, k, c, row0);
    multiply(dq, by_rows, rows);
    load_factor<true>(rows, q, c, row0);
    multiply(dk, by_keys, rows);
    load_factor<true>(rows, given, c, row0);
    multiply(dv, p_by_keys, rows);
    __syncwarp();  // what is written over has been read
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (head.has_pair(c + 8 * half))
#pragma unroll
        for (int r = 0; r < 4; r += 2) {
          const int row = row0 + g + 4 * r, column = c + 8 * half + 2 * t;
          q.put(row, column, dq[half][r], dq[half][r + 1]);
          k.put(row, column, dk[half][r], dk[half][r + 1]);
          v.put(row, column, dv[half][r], dv[half][r + 1]);
        }
  }
  __syncwarp();  // before the next head reads
}

template <class T, int D>
struct AttentionSums {
  using S = Share<D>;
  float w[S::kBands][D / 8][4] = {};  // 16 rows of wq, wk, wv or wo
  float b[S::kBands][D / 8] = {};
  float gamma[S::kColumns] = {}, beta[S::kColumns] = {};

  static __device__ __forceinline__ int matrix_of(int band) { return (threadIdx.x / 32 + band * S::kWarps) / S::kSteps; }
  static __device__ __forceinline__ int row_of(int band) { return (threadIdx.x / 32 + band * S::kWarps) % S::kSteps * 16; }

  // Step 5, of the tile in rows row0 on.
  __device__ __forceinline__ void add(AttentionTiles<T, D>& tiles, int row0) {
#pragma unroll
    for (int i = 0; i < S::kBands; ++i) {
      const int matrix = matrix_of(i);
      Left<T> left;
      load_factor<true>(left, tiles.of[matrix == tiles.kDr ? tiles.kGiven : tiles.kNormed], row_of(i), row0);
#pragma unroll
      for (int c = 0; c < S::kSteps; ++c) {
        Right<T> right;
        load_factor<true>(right, tiles.of[matrix], 16 * c, row0);
        multiply(w[i] + 2 * c, left, right);
        if (row_of(i) == 0)
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const float2 v = unpack<T>(right.pair[2 * half + pair]);
              b[i][2 * c + half] += v.x + v.y;
            }
      }
    }
  }

  __device__ __forceinline__ void store(float* part, float (&vectors)[S::kWarps][D]) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < S::kBands; ++i) {
      const bool of_output = matrix_of(i) == 3;
      float* to = part + kOffset<kWq, D> + matrix_of(i) * (D * D + D);  // a matrix and its bias after another
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int row = row_of(i) + g + r / 2 * 8, column = 8 * j + 2 * t + r % 2;
          to[of_output ? row * D + Places<D>::column_of(column) : Places<D>::column_of(row) * D + column] = w[i][j][r];
        }
        const float sum = quad_sum(b[i][j]);
        if (row_of(i) == 0 && t == 0) to[D * D + (of_output ? Places<D>::column_of(8 * j + g) : 8 * j + g)] = sum;
      }
    }
    store_vector<D>(part + kOffset<kGamma1, D>, gamma, vectors);
    store_vector<D>(part + kOffset<kBeta1, D>, beta, vectors);
  }
};

// Steps 4 and 5. The block calls it, and has met before.
template <class T, int D, class Shared>
__device__ __forceinline__ void attention_steps(float (&dr)[D / 8][4], AttentionSums<T, D>& sums, Shared& shared, const InnerShape& s, const InnerTile& tile, const T* x, const T* dy, T* dx) {
  using S = Share<D>;
  AttentionTiles<T, D>& tiles = shared.attention_tiles;
  InnerAttentionWeights<T, D>& w = shared.attention;
  const int own = kInnerRows * (threadIdx.x / 32);
  float v[D / 8][4];
  Left<T> n[S::kSteps], factors[S::kSteps];
  load_rows<T, D>(v, x, tile);
  RowStatistics statistics = row_statistics(v, s.rms, s.eps);
  normed<T, D>(n, v, statistics, w.gamma, w.beta);
  attend<T, D>(factors, n, w, s, tile, KeepRows<T, D>{tiles, own});
#pragma unroll
  for (int i = 0; i < S::kSteps; ++i) put_factor(tiles.of[tiles.kGiven], own, 16 * i, factors[i]);
#pragma unroll
  for (int i = 0; i < S::kSteps; ++i) factors[i] = left_of<T>(dr + 2 * i), put_factor(tiles.of[tiles.kDr], own, 16 * i, factors[i]);
#pragma unroll
  for (int i = 0; i < S::kSteps; ++i) {
    float d_given[2][4] = {};
#pragma unroll
    for (int c = 0; c < S::kSteps; ++c) {
      Right<T> weight;
      load_factor<false>(weight, w.o, 16 * i, 16 * c);
      multiply(d_given, factors[c], weight);
    }
    put_factor(tiles.of[tiles.kDGiven], own, 16 * i, left_of<T>(d_given));
  }
  __syncwarp();  // all lanes' rows are there
  const InnerSight sight(s, tile);
#pragma unroll 1
  for (int h = 0; h < s.heads; ++h) head_backward(tiles, own, InnerHead(s, h), sight, s.scale);

  float dn[D / 8][4] = {};
#pragma unroll
  for (int m = 0; m < 3; ++m)
#pragma unroll
    for (int c = 0; c < S::kSteps; ++c) {
      Left<T> rows;
      load_factor<false>(rows, tiles.of[m], own, 16 * c);
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) {
        Right<T> weight;
        load_factor<false>(weight, m == 0 ? w.q : m == 1 ? w.k : w.v, 16 * i, 16 * c);
        multiply(dn + 2 * i, rows, weight);
      }
    }
  load_rows<T, D>(v, x, tile);
  normed<T, D>(n, v, statistics, w.gamma, w.beta);
#pragma unroll
  for (int i = 0; i < S::kSteps; ++i) put_factor(tiles.of[tiles.kNormed], own, 16 * i, n[i]);
  through_norm<D>(dn, v, statistics, w.gamma, s.rms, sums.gamma, sums.beta);
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) dn[j][i] += dr[j][i];
  if (s.outer) add_rows<T, D>(dn, dy, tile);
  store_rows<T, D>(dx, dn, tile);
  __syncthreads();  // the rows of all warps are there
#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, row0);
}

// ---- the kernels

template <class T>
struct DxMemory {
  const T *x, *dy;
  T* dx;
  float* dr;     // where it goes through memory; before, r
  float* parts;  // [blocks, kPart]
  int64_t slots, slots_each;  // of a block: a multiple of its warps
};

template <class T, int D>
__global__ void __launch_bounds__(32 * kInnerWarps<D>) inner_transformer_r_kernel(InnerShape s, InnerParameters parameters, DxMemory<T> m) {
  auto& weights = shared_memory<InnerAttentionWeights<T, D>>();
  load_weights(weights, parameters);
  __syncthreads();
  const int64_t first = blockIdx.x * m.slots_each + threadIdx.x / 32, last = min((blockIdx.x + 1) * m.slots_each, m.slots);
  InnerTiles tiles(s, first);
  for (int64_t slot = first; slot < last; slot += kInnerWarps<D>) {
    const InnerTile tile = tiles.at(slot);
    float r[D / 8][4];
    load_rows<T, D>(r, m.x, tile);
    add_attention<T, D>(r, weights, s, tile);
    move_rows<D>(r, m.dr, tile, true);
  }
}

template <class T, int D, int kSteps>
__global__ void __launch_bounds__(32 * kInnerWarps<D>, 1) inner_transformer_dx_kernel(InnerShape s, InnerParameters parameters, DxMemory<T> m) {
  auto& shared = shared_memory<DxShared<T, D, kSteps>>();
  if constexpr (kSteps & kAttentionSteps) load_weights(shared.attention, parameters);
  if constexpr (kSteps & kFfnSteps) load_weights(shared.ffn, parameters);
  __syncthreads();
  constexpr bool kFfn = kSteps & kFfnSteps, kAttention = kSteps & kAttentionSteps;
  std::conditional_t<kFfn, FfnSums<T, D>, Nothing> ffn;
  std::conditional_t<kAttention, AttentionSums<T, D>, Nothing> attention;
  const int64_t first = blockIdx.x * m.slots_each, last = min(first + m.slots_each, m.slots), own = threadIdx.x / 32;
  InnerTiles tiles(s, min(first + own, last - 1));
#pragma unroll 1
  for (int64_t slot = first; slot < last; slot += kInnerWarps<D>) {
    const InnerTile tile = slot + own < last ? tiles.at(slot + own) : InnerTile{0, 0, 0};
    float dr[D / 8][4];
    if constexpr (kFfn) ffn_steps<T, D, !kAttention>(dr, ffn, shared, s, tile, m.x, m.dy, m.dr);
    if constexpr (kSteps != kAllSteps) move_rows<D>(dr, m.dr, tile, kFfn);
    __syncthreads();  // the tiles are done with
    if constexpr (kAttention) {
      attention_steps<T, D>(dr, attention, shared, s, tile, m.x, m.dy, m.dx);
      __syncthreads();  // the tiles are done with
    }
  }
  float* part = m.parts + static_cast<int64_t>(blockIdx.x) * Share<D>::kPart;
  if constexpr (kFfn) ffn.store(part, shared.vectors, Share<D>::kUnits * static_cast<int>(own));
  if constexpr (kAttention) attention.store(part, shared.vectors);
}

struct Gradients {
  float* of[kInnerParameters];
  int first[kInnerParameters + 1];  // in a part
};

__global__ void inner_transformer_sum_kernel(const float* parts, int count, Gradients gradients) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x, size = gradients.first[kInnerParameters];
  if (at >= size) return;
  float total = 0;
#pragma unroll 8
  for (int i = 0; i < count; ++i) total += parts[static_cast<int64_t>(i) * size + at];
#pragma unroll
  for (int i = 0; i < kInnerParameters; ++i)
    if (gradients.of[i] && at >= gradients.first[i] && at < gradients.first[i + 1]) gradients.of[i][at - gradients.first[i]] = total;
}

// Blocks, and the slots of each.
struct Division {
  int64_t slots, each, blocks;
  Division(const InnerTransformerArgs& a, const InnerShape& s, int warps) {
    slots = a.rows ? inner_slots(s) : 0;
    each = std::max<int64_t>(1, divide_up(divide_up(slots, kInnerMostBlocks), warps)) * warps;
    blocks = divide_up(slots, each);
  }
};

template <int D>
constexpr bool kInOneKernel = D < 64;

template <class T>
struct DxWorkspace {
  DxMemory<T> memory;
  int64_t bytes;
};
template <class T, int D>
DxWorkspace<T> dx_workspace(const InnerTransformerArgs& a, const Division& division, void* memory) {
  Parts parts(memory);
  DxWorkspace<T> w{{static_cast<const T*>(a.x.data), static_cast<const T*>(a.dy.data), static_cast<T*>(a.dx.data), nullptr, nullptr, division.slots, division.each}, 0};
  w.memory.parts = parts.take<float>(division.blocks * Share<D>::kPart);
  w.memory.dr = parts.take<float>(kInOneKernel<D> ? 0 : a.rows * D);
  w.bytes = parts.bytes();
  return w;
}

constexpr const char* kName = "inner_transformer_dx";

}  // namespace

int64_t inner_transformer_dx_workspace(const Call& call) {
  const InnerTransformerArgs a = inner_transformer_args(call, true);
  int64_t bytes = 0;
  with_inner_form(kName, a, [&](auto type, auto width) {
    constexpr int D = decltype(width)::value;
    bytes = dx_workspace<decltype(type), D>(a, Division(a, inner_shape(kName, a), kInnerWarps<D>), nullptr).bytes;
  });
  return bytes;
}

void inner_transformer_dx(const Call& call, const Queue& queue) {
  const InnerTransformerArgs a = inner_transformer_args(call, true);
  const InnerShape s = inner_shape(kName, a);
  const InnerParameters parameters = inner_parameters(kName, a.parameter);
  Gradients to;
  for (int i = 0; i <= kInnerParameters; ++i) to.first[i] = part_offset(i, narrow(kName, a.width));
  for (int i = 0; i < kInnerParameters; ++i) to.of[i] = vector_of<float>(kName, a.gradient[i]);
  with_inner_form(kName, a, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int D = decltype(width)::value;
    const Division division(a, s, kInnerWarps<D>);
    const DxMemory<T> memory = dx_workspace<T, D>(a, division, call.workspace).memory;
    const auto run = [&](auto steps) {
      constexpr int kSteps = decltype(steps)::value;
      launch(queue.stream, kName, inner_transformer_dx_kernel<T, D, kSteps>, dim3(static_cast<unsigned>(division.blocks)), dim3(32 * kInnerWarps<D>), sizeof(DxShared<T, D, kSteps>),
             s, parameters, memory);
    };
    if constexpr (kInOneKernel<D>) {
      run(std::integral_constant<int, kAllSteps>());
    } else {
      launch(queue.stream, kName, inner_transformer_r_kernel<T, D>, dim3(static_cast<unsigned>(division.blocks)), dim3(32 * kInnerWarps<D>), sizeof(InnerAttentionWeights<T, D>), s,
             parameters, memory);
      run(std::integral_constant<int, kFfnSteps>());
      run(std::integral_constant<int, kAttentionSteps>());
    }
    launch(queue.stream, "inner_transformer_dx sum", inner_transformer_sum_kernel, dim3(static_cast<unsigned>(divide_up(Share<D>::kPart, 128))), dim3(128), 0,
           static_cast<const float*>(memory.parts), static_cast<int>(division.blocks), to);
  });
}

}  // namespace longer::cuda
