// inner_transformer_dx (kernels/inner_transformer.h): the forward pass again and the backward pass of a tile of events, in one
// kernel. The warps of a block take a tile each and go through these steps together:
//
//   1  own tile: r and its norm                                    2  own hidden units, all tiles: the hidden layer's gradient,
//   3  own tile: the gradient dr of r                                 and those of w1, b1, w2, into registers
//   4  own tile: q, k, v again, attention's gradients, dx          5  own rows of wq, wk, wv, wo, all tiles: their gradients
//
// In steps 2 and 5 a factor's rows are all events of the block, so nothing is summed over warps. A block goes on with other
// tiles and leaves the gradients of parameters as its part; a second kernel adds the parts up in ascending order. How many
// there are depends on the shapes alone.
#include "kernels/cuda/inner_ffn_dx.cuh"

namespace longer::cuda {

namespace {

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
  float b[D / 8] = {};                // of that of them whose bias is this warp's
  float gamma[S::kColumns] = {}, beta[S::kColumns] = {};

  static __device__ __forceinline__ int matrix_of(int band) { return (threadIdx.x / 32 + band * S::kWarps) / S::kSteps; }
  static __device__ __forceinline__ int row_of(int band) { return (threadIdx.x / 32 + band * S::kWarps) % S::kSteps * 16; }

  // Of each matrix one warp sums the bias, and no warp those of two.
  static __device__ __forceinline__ bool has_bias(int band) { return row_of(band) == 16 * band; }

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
        if (has_bias(i))
#pragma unroll
          for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const float2 v = unpack<T>(right.pair[2 * half + pair]);
              b[2 * c + half] += v.x + v.y;
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
        const float sum = quad_sum(b[j]);
        if (has_bias(i) && t == 0) to[D * D + (of_output ? Places<D>::column_of(8 * j + g) : 8 * j + g)] = sum;
      }
    }
    store_vector<D>(part + kOffset<kGamma1, D>, gamma, vectors);
    store_vector<D>(part + kOffset<kBeta1, D>, beta, vectors);
  }
};

// Steps 4 and 5. The block calls it, and has met before.
template <class T, int D>
__device__ __forceinline__ void attention_steps(const float (&dr)[D / 8][4], AttentionSums<T, D>& sums, DxShared<T, D>& shared, const InnerShape& s, const InnerTile& tile, const T* x, const T* dy, T* dx) {
  using S = Share<D>;
  AttentionTiles<T, D>& tiles = shared.attention_tiles;
  InnerAttentionWeights<T, D>& w = shared.attention;
  const int own = kInnerRows * (threadIdx.x / 32);
  float v[D / 8][4];
  Left<T> n[S::kSteps], factors[S::kSteps];
  load_rows<T, D>(v, x, tile);
  normed<T, D>(n, v, row_statistics(v, s.rms, s.eps), w.gamma, w.beta);
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
  const RowStatistics statistics = row_statistics(v, s.rms, s.eps);
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
  float* parts;  // [blocks, kPart]
  int slots, slots_each;  // of a block: a multiple of its warps
};

template <class T, int D>
__global__ void __launch_bounds__(32 * kInnerWarps<D>, 1) inner_transformer_dx_kernel(InnerShape s, InnerParameters parameters, DxMemory<T> m) {
  auto& shared = shared_memory<DxShared<T, D>>();
  load_weights(shared.attention, parameters);
  load_weights(shared.ffn, parameters);
  __syncthreads();
  FfnSums<T, D> ffn;
  AttentionSums<T, D> attention;
  const int first = blockIdx.x * m.slots_each, last = min(first + m.slots_each, m.slots), own = threadIdx.x / 32;
  InnerTiles tiles(s, min(first + own, last - 1));
#pragma unroll 1
  for (int slot = first; slot < last; slot += kInnerWarps<D>) {
    const InnerTile tile = slot + own < last ? tiles.at(slot + own) : InnerTile{0, 0};
    float dr[D / 8][4];
    ffn_steps<T, D>(dr, ffn, shared, s, tile, m.x, m.dy);
    __syncthreads();  // the tiles are done with
    attention_steps<T, D>(dr, attention, shared, s, tile, m.x, m.dy, m.dx);
    __syncthreads();  // and these
  }
  float* part = m.parts + static_cast<int64_t>(blockIdx.x) * Share<D>::kPart;
  ffn.store(part, shared.vectors);
  attention.store(part, shared.vectors);
}

struct Gradients {
  float* of[kInnerParameters];
  int first[kInnerParameters + 1];  // in a part
};

__global__ void inner_transformer_sum_kernel(const float* parts, int count, Gradients gradients) {
  const int at = (blockIdx.x * blockDim.x + threadIdx.x) * kPack, size = gradients.first[kInnerParameters];
  if (at >= size) return;
  float total[kPack] = {};
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    float v[kPack];
    load_own_pack(v, parts + static_cast<int64_t>(i) * size + at, kPack, true);
#pragma unroll
    for (int e = 0; e < kPack; ++e) total[e] += v[e];
  }
#pragma unroll
  for (int i = 0; i < kInnerParameters; ++i)  // sizes are multiples of 16
    if (gradients.of[i] && at >= gradients.first[i] && at < gradients.first[i + 1])
#pragma unroll
      for (int e = 0; e < kPack; ++e) gradients.of[i][at - gradients.first[i] + e] = total[e];
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

constexpr const char* kName = "inner_transformer_dx";

}  // namespace

int64_t inner_transformer_dx_workspace(const Call& call) {
  const InnerTransformerArgs a = inner_transformer_args(call, true);
  int64_t floats = 0;
  with_inner_form(kName, a, [&](auto, auto width) {
    constexpr int D = decltype(width)::value;
    floats = Division(a, inner_shape(kName, a), kInnerWarps<D>).blocks * Share<D>::kPart;
  });
  return floats * static_cast<int64_t>(sizeof(float));
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
    const DxMemory<T> memory{static_cast<const T*>(a.x.data), static_cast<const T*>(a.dy.data), static_cast<T*>(a.dx.data), static_cast<float*>(call.workspace),
                             static_cast<int>(division.slots), static_cast<int>(division.each)};
    launch(queue.stream, kName, inner_transformer_dx_kernel<T, D>, dim3(static_cast<unsigned>(division.blocks)), dim3(32 * kInnerWarps<D>), sizeof(DxShared<T, D>), s, parameters, memory);
    launch(queue.stream, "inner_transformer_dx sum", inner_transformer_sum_kernel, dim3(static_cast<unsigned>(divide_up(Share<D>::kPart, 64 * kPack))), dim3(64), 0,
           static_cast<const float*>(memory.parts), static_cast<int>(division.blocks), to);
  });
}

}  // namespace longer::cuda
