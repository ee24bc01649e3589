// What the forward and the backward kernel of inner_transformer (kernels/inner_transformer.h) have in common. A warp has a tile
// of up to 16 events, whole groups of one request counted from its newest event, and takes them through the block in registers;
// parameters lie in shared memory, matrices in the type T that is multiplied.
//
// Sums of a tile: v[j][r] is row g (r < 2) or g + 8, place 8 j + 2 t + r % 2, with g = lane / 4, t = lane % 4. The rows of x and
// of all that is added to it are read and written 16 bytes a lane, so their columns stand in another order: see place_of.
#pragma once
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/inner_tiles.cuh"

namespace longer::cuda {

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
