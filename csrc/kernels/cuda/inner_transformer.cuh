// What the forward and the backward kernel of inner_transformer (kernels/inner_transformer.h) have in common. A warp has a tile
// of up to 16 events, whole groups of one request counted from its newest event, and takes them through the block in registers;
// parameters lie in shared memory, matrices in the type T that is multiplied.
//
// Sums of a tile: v[j][r] is row g (r < 2) or g + 8, place 8 j + 2 t + r % 2, with g = lane / 4, t = lane % 4. The rows of x and
// of all that is added to it are read and written 16 bytes a lane, so their columns stand in another order: see place_of.
#pragma once
#include "kernels/cuda/activation.cuh"
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

// ---- tiles of events

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

// ---- sums in registers

// Of the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

struct RowStatistics {
  float mean[2], rstd[2];  // of rows g and g + 8
};

template <int N>
__device__ __forceinline__ RowStatistics row_statistics(const float (&v)[N][4], bool rms, float eps) {
  RowStatistics s;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float sum = 0, square = 0;
#pragma unroll
    for (int j = 0; j < N; ++j) sum += v[j][2 * row] + v[j][2 * row + 1];
    s.mean[row] = rms ? 0.f : quad_sum(sum) * (1.f / (8 * N));
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float a = v[j][2 * row] - s.mean[row], b = v[j][2 * row + 1] - s.mean[row];
      square += a * a + b * b;
    }
    s.rstd[row] = rsqrtf(quad_sum(square) * (1.f / (8 * N)) + eps);
  }
  return s;
}

// A vector's elements at places 8 j + 2 t and the next.
__device__ __forceinline__ float2 pair_at(const float* vector, int j) { return *reinterpret_cast<const float2*>(vector + 8 * j + threadIdx.x % 4 * 2); }

// norm, as left factors.
template <class T, int D>
__device__ __forceinline__ void normed(Left<T> (&n)[D / 16], const float (&v)[D / 8][4], const RowStatistics& s, const float* gamma, const float* beta) {
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    float y[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = 2 * i + half;
      const float2 by = pair_at(gamma, j), and_then = pair_at(beta, j);
#pragma unroll
      for (int r = 0; r < 4; ++r) y[half][r] = (v[j][r] - s.mean[r / 2]) * s.rstd[r / 2] * (r % 2 ? by.y : by.x) + (r % 2 ? and_then.y : and_then.x);
    }
    n[i] = left_of<T>(y);
  }
}

// Columns n0 .. n0 + 15 of the left factors times a matrix whose rows are the depth, added to sums.
template <class T, int kSteps, int kRows, int kColumns>
__device__ __forceinline__ void multiply_matrix(float (*sums)[4], const Left<T> (&a)[kSteps], Tile<T, kRows, kColumns>& b, int n0) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    Right<T> right;
    load_factor<true>(right, b, n0, 16 * i);
    multiply(sums, a[i], right);
  }
}

template <class T>
__device__ __forceinline__ Left<T> zeros_but(const Left<T>& a, bool low, bool high) {  // columns 2 t, 2 t + 1, and those 8 on
  Left<T> f;
#pragma unroll
  for (int i = 0; i < 4; ++i) f.pair[i] = (i < 2 ? low : high) ? a.pair[i] : 0u;
  return f;
}

// ---- attention within a tile

// Which keys the rows g and g + 8 see: those of their group that are events (or, as they, are none). 4 by 4: two tiles of 8 keys.
struct InnerSight {
  unsigned seen;  // bit 4 j + r: sums[j][r]
  __device__ __forceinline__ InnerSight(const InnerShape& s, const InnerTile& tile) : seen(0) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = g + i % 4 / 2 * 8, key = i / 4 * 8 + 2 * t + i % 2;
      if (row / s.group == key / s.group && is_event(tile, row) == is_event(tile, key)) seen |= 1u << i;
    }
  }
};

// Scores to probabilities; every row sees itself.
__device__ __forceinline__ void softmax(float (&p)[2][4], const InnerSight& sight, float scale) {
  const float by = scale * 1.4426950408889634f;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float most = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& s = p[i / 2][2 * row + i % 2];
      s = sight.seen >> (i / 2 * 4 + 2 * row + i % 2) & 1 ? s * by : -INFINITY;
      most = fmaxf(most, s);
    }
    most = quad_max(most);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& s = p[i / 2][2 * row + i % 2];
      s = ptx::exp2_approx(s - most);
      sum += s;
    }
    const float inverse = 1.f / quad_sum(sum);
#pragma unroll
    for (int i = 0; i < 4; ++i) p[i / 2][2 * row + i % 2] *= inverse;
  }
}

// One head at a time: columns [first, end) of q, k, v.
struct InnerHead {
  int first, end;
  __device__ __forceinline__ InnerHead(const InnerShape& s, int head) : first(head * s.head_width), end(first + s.head_width) {}
  __device__ __forceinline__ bool touches(int column, int count) const { return column < end && column + count > first; }
  // Of the neighbours of this lane in the 8 columns from there on: head widths are even.
  __device__ __forceinline__ bool has_pair(int column) const {
    const int c = column + threadIdx.x % 4 * 2;
    return c >= first && c < end;
  }
};

// What of it the backward pass keeps: nothing.
struct KeepNothing {
  static constexpr bool kWanted = false;
};

// What attention gives for the rows whose norm is n, as left factors. keep.q(i, factor), keep.k, keep.v: 16 columns of q, k and v, from 16 i on.
template <class T, int D, class Keep>
__device__ __forceinline__ void attend(Left<T> (&given)[D / 16], const Left<T> (&n)[D / 16], InnerAttentionWeights<T, D>& w, const InnerShape& s, const InnerTile& tile, const Keep& keep) {
  constexpr int kSteps = D / 16;
  Left<T> q[kSteps], k[kSteps];
  const auto rows_of = [&](Tile<T, D, D>& weight, const float* bias, int i) {
    float sums[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 b = pair_at(bias, 2 * i + half);
      sums[half][0] = sums[half][2] = b.x, sums[half][1] = sums[half][3] = b.y;
    }
    multiply_matrix(sums, n, weight, 16 * i);
    return left_of<T>(sums);
  };
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    q[i] = rows_of(w.q, w.bq, i);
    k[i] = rows_of(w.k, w.bk, i);
    if constexpr (Keep::kWanted) keep.q(i, q[i]), keep.k(i, k[i]), keep.v(i, rows_of(w.v, w.bv, i));
  }
  // v as a right factor has tokens in pairs: its transpose is what is computed, for which n lies right already.
  uint32_t v[D / 8][2];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const int g = threadIdx.x % 32 / 4;
    const float low = w.bv[16 * i + g], high = w.bv[16 * i + g + 8];
    float sums[2][4] = {{low, low, high, high}, {low, low, high, high}};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Left<T> weight;
      load_factor<true>(weight, w.v, 16 * i, 16 * step);
#pragma unroll
      for (int half = 0; half < 2; ++half) multiply<T>(sums[half], weight.pair, n[step].pair[half], n[step].pair[2 + half]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int tokens = 0; tokens < 2; ++tokens) v[2 * i + half][tokens] = pack<T>(sums[tokens][2 * half], sums[tokens][2 * half + 1]);
  }
  float o[D / 8][4] = {};
  const InnerSight sight(s, tile);
#pragma unroll 1
  for (int h = 0; h < s.heads; ++h) {
    const InnerHead head(s, h);
    float p[2][4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
      if (head.touches(16 * i, 16)) {
        const Left<T> own = zeros_but(q[i], head.has_pair(16 * i), head.has_pair(16 * i + 8));
#pragma unroll
        for (int half = 0; half < 2; ++half) multiply<T>(p[half], own.pair, k[i].pair[half], k[i].pair[2 + half]);
      }
    softmax(p, sight, s.scale);
    const Left<T> weights = left_of<T>(p);
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
      if (head.touches(8 * j, 8)) {
        float sums[4] = {};
        multiply<T>(sums, weights.pair, v[j][0], v[j][1]);
        if (head.has_pair(8 * j))
#pragma unroll
          for (int r = 0; r < 4; ++r) o[j][r] = sums[r];
      }
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) given[i] = left_of<T>(o + 2 * i);
}

template <int D>
__device__ __forceinline__ void add_vector(float (&v)[D / 8][4], const float* vector) {
#pragma unroll
  for (int j = 0; j < D / 8; ++j) {
    const float2 b = pair_at(vector, j);
    v[j][0] += b.x, v[j][1] += b.y, v[j][2] += b.x, v[j][3] += b.y;
  }
}

// r = x + attention(norm(x)) wo + bo, in place of x.
template <class T, int D>
__device__ __forceinline__ void add_attention(float (&x)[D / 8][4], InnerAttentionWeights<T, D>& w, const InnerShape& s, const InnerTile& tile) {
  Left<T> n[D / 16], given[D / 16];
  normed<T, D>(n, x, row_statistics(x, s.rms, s.eps), w.gamma, w.beta);
  attend<T, D>(given, n, w, s, tile, KeepNothing());
  add_vector<D>(x, w.bo);
#pragma unroll
  for (int i = 0; i < D / 16; ++i) multiply_matrix(x + 2 * i, given, w.o, 16 * i);
}

// ---- launching

inline InnerShape inner_shape(const char* op, const InnerTransformerArgs& a) {
  if (a.group > kInnerRows) throw shape_error(std::string(op) + ": the device takes groups of up to 16 events");
  if (a.width / a.heads % 2) throw shape_error(std::string(op) + ": the device takes heads of an even number of columns");
  const int group = static_cast<int>(a.group);
  narrow(op, a.rows + a.requests);
  return {a.event_offsets.i32(), static_cast<int>(a.requests), static_cast<int>(a.rows), group, kInnerRows / group * group, static_cast<int>(a.heads), static_cast<int>(a.width / a.heads),
          a.rms, a.outer, static_cast<float>(a.scale), static_cast<float>(a.eps)};
}

inline InnerParameters inner_parameters(const char* op, const Tensor (&parameter)[kInnerParameters]) {
  InnerParameters p;
  for (int i = 0; i < kInnerParameters; ++i) p.of[i] = vector_of<float>(op, parameter[i]);
  return p;
}

// run(T{}, width as a constant)
template <class Run>
void with_inner_form(const char* op, const InnerTransformerArgs& a, Run&& run) {
  const auto sized = [&](auto type) {
    if (a.width == 16) run(type, std::integral_constant<int, 16>());
    else if (a.width == 32) run(type, std::integral_constant<int, 32>());
    else throw shape_error(std::string(op) + ": the device takes widths of 16 and 32");
  };
  if (a.x.dtype == DType::bf16) sized(Bf16{});
  else if (a.x.dtype == DType::f16) sized(Half{});
  else throw shape_error(std::string(op) + ": the device takes bf16 and f16 only");
}

}  // namespace longer::cuda
