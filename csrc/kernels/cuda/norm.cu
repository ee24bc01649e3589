// norm and norm_dx (kernels/norm.h). A warp owns a row and reads it 8 elements a lane at a time: once for rows of up to
// 1024 elements, which stay in registers, else once for each of the three passes (from L2).
//
// dgamma and dbeta: every warp sums rows r, r + 1, ... of its own chunk in ascending order and leaves a partial row; a
// second kernel adds the partial rows in ascending order. The chunks depend on the number of rows only: the same bits on
// every GPU.
#include "kernels/norm.h"

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace longer::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kStep = 32 * kPack;  // elements that a warp reads at a time
constexpr int kKept = 4;           // steps of a row that stay in registers

template <class X, class Y>
struct NormPointers {
  const X* x;
  const float *gamma, *beta;
  Y* y;
  float *mean, *rstd;
  int64_t rows;
  int width;
  float eps;
  bool rms, vector;
};

// kSteps * 256 >= width where the row is kept; kSteps == 0 reads it again.
template <class X, class Y, int kSteps>
__global__ void __launch_bounds__(32 * kWarps) norm_kernel(NormPointers<X, Y> p) {
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;
  const X* x = p.x + row * p.width;
  float kept[kSteps ? kSteps : 1][kPack];
  const auto each = [&](bool first, auto&& visit) {
    if constexpr (kSteps > 0) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int c = s * kStep + lane * kPack, count = min(kPack, p.width - c);
        if (count <= 0) continue;
        if (first) load_pack(kept[s], x + c, count, p.vector);
        visit(kept[s], c, count);
      }
    } else {
      for (int c = lane * kPack; c < p.width; c += kStep) {
        const int count = min(kPack, p.width - c);
        load_pack(kept[0], x + c, count, p.vector);
        visit(kept[0], c, count);
      }
    }
  };
  const float scale = 1.f / p.width;
  float sum = 0, square = 0;
  each(true, [&](float (&v)[kPack], int, int) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += v[i];  // what lies past the row is zero
  });
  const float mean = p.rms ? 0.f : warp_sum(sum) * scale;
  each(false, [&](float (&v)[kPack], int, int count) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) square += i < count ? (v[i] - mean) * (v[i] - mean) : 0.f;
  });
  const float rstd = rsqrtf(warp_sum(square) * scale + p.eps);
  each(false, [&](float (&v)[kPack], int c, int count) {
    float gamma[kPack], beta[kPack] = {}, y[kPack];
    load_pack(gamma, p.gamma + c, count, p.vector);
    if (p.beta) load_pack(beta, p.beta + c, count, p.vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) y[i] = (v[i] - mean) * rstd * gamma[i] + beta[i];
    store_pack(p.y + row * p.width + c, y, count, p.vector);
  });
  if (lane == 0 && p.mean) p.mean[row] = mean;
  if (lane == 0 && p.rstd) p.rstd[row] = rstd;
}

template <class X, class D>
struct NormDxPointers {
  const X* x;
  const float *gamma, *mean, *rstd;
  const D* dy;
  Values add, dx;  // each of its own type
  float* partial;  // [chunks][2][width]: dgamma, dbeta
  int64_t rows, chunk;
  int width;
  bool rms, vector;
};

// Rows of a chunk, one after another by one warp; columns in slabs so that the sums of a slab stay in registers.
template <class X, class D>
__global__ void __launch_bounds__(32 * kWarps, 4) norm_dx_kernel(NormDxPointers<X, D> p) {
  const int lane = threadIdx.x % 32;
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int64_t first = chunk * p.chunk, last = min(first + p.chunk, p.rows);
  if (first >= last) return;
  const float scale = 1.f / p.width;
  const auto load = [&](int64_t row, int c, float (&h)[kPack], float (&dy)[kPack], float mean, float rstd) {
    const int count = min(kPack, p.width - c);
    load_pack(h, p.x + row * p.width + c, count, p.vector);
    load_pack(dy, p.dy + row * p.width + c, count, p.vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) h[i] = i < count ? (h[i] - mean) * rstd : 0.f;
    return count;
  };
#pragma unroll 1
  for (int64_t row = first; row < last; ++row) {
    const float mean = p.rms ? 0.f : p.mean[row], rstd = p.rstd[row];
    float h[kPack], dy[kPack], gamma[kPack], sum_g = 0, sum_gh = 0;
    for (int c = lane * kPack; c < p.width; c += kStep) {
      const int count = load(row, c, h, dy, mean, rstd);
      load_pack(gamma, p.gamma + c, count, p.vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum_g += dy[i] * gamma[i], sum_gh += dy[i] * gamma[i] * h[i];
    }
    const float mean_g = p.rms ? 0.f : warp_sum(sum_g) * scale, mean_gh = warp_sum(sum_gh) * scale;
    for (int c = lane * kPack; c < p.width; c += kStep) {
      const int count = load(row, c, h, dy, mean, rstd);
      float dx[kPack], add[kPack] = {};
      load_pack(gamma, p.gamma + c, count, p.vector);
      if (p.add.data) load_pack(add, p.add, row * p.width + c, count, p.vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) dx[i] = rstd * (dy[i] * gamma[i] - mean_g - h[i] * mean_gh) + add[i];
      store_pack(p.dx, row * p.width + c, dx, count, p.vector);
    }
  }
  for (int c = lane * kPack; c < p.width; c += kStep) {  // the chunk's rows are still in L2
    float dgamma[kPack] = {}, dbeta[kPack] = {}, h[kPack], dy[kPack];
    int count = 0;
#pragma unroll 1
    for (int64_t row = first; row < last; ++row) {
      count = load(row, c, h, dy, p.rms ? 0.f : p.mean[row], p.rstd[row]);
#pragma unroll
      for (int i = 0; i < kPack; ++i) dgamma[i] += dy[i] * h[i], dbeta[i] += dy[i];
    }
    store_pack(p.partial + chunk * 2 * p.width + c, dgamma, count, p.vector);
    store_pack(p.partial + (chunk * 2 + 1) * p.width + c, dbeta, count, p.vector);
  }
}

__global__ void sum_partial_rows(const float* partial, int64_t chunks, int width, float* dgamma, float* dbeta) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= width) return;
  float gamma = 0, beta = 0;
  for (int64_t i = 0; i < chunks; ++i) {
    gamma += partial[i * 2 * width + c];
    beta += partial[(i * 2 + 1) * width + c];
  }
  dgamma[c] = gamma;
  if (dbeta) dbeta[c] = beta;
}

// run(X{}, D{}) with the types of two tensors, of which one may be f32.
template <class Run>
void with_types(const char* op, const Tensor& a, const Tensor& b, Run&& run) {
  with_type(a, [&](auto first) {
    using A = decltype(first);
    with_type(b, [&](auto second) {
      using B = decltype(second);
      if constexpr (std::is_same_v<A, B> || std::is_same_v<A, float> || std::is_same_v<B, float>) run(A{}, B{});
      else throw shape_error(std::string(op) + ": bf16 and f16 in one call");
    });
  });
}

// About 1024 chunks, enough warps for every GPU; by the rows alone.
int64_t chunk_rows(int64_t rows) { return divide_up(rows, 1024) < 8 ? 8 : divide_up(rows, 1024); }

}  // namespace

void norm(const Call& call, const Queue& queue) {
  const NormArgs a = norm_args(call);
  if (a.rows == 0) return;
  with_types("norm", a.x, a.y, [&](auto x, auto y) {
    using X = decltype(x);
    using Y = decltype(y);
    const bool vector = packs_aligned(data<X>(a.x), a.width) && packs_aligned(data<Y>(a.y), a.width) &&
                        packs_aligned(data<float>(a.gamma), a.width) && packs_aligned(data<float>(a.beta), a.width);
    const NormPointers<X, Y> p{data<X>(a.x), data<float>(a.gamma), data<float>(a.beta), data<Y>(a.y), data<float>(a.mean), data<float>(a.rstd),
                               a.rows, narrow("norm", a.width), static_cast<float>(a.eps), a.rms, vector};
    const int64_t steps = divide_up(a.width, kStep);
    const auto kernel = steps == 1 ? norm_kernel<X, Y, 1> : steps == 2 ? norm_kernel<X, Y, 2> : steps <= kKept ? norm_kernel<X, Y, kKept> : norm_kernel<X, Y, 0>;
    launch(queue.stream, "norm", kernel, dim3(grid_size("norm", divide_up(a.rows, kWarps))), dim3(32 * kWarps), 0, p);
  });
}

int64_t norm_dx_workspace(const Call& call) {
  const NormDxArgs a = norm_dx_args(call);
  return a.rows ? divide_up(a.rows, chunk_rows(a.rows)) * 2 * a.width * static_cast<int64_t>(sizeof(float)) : 0;
}

void norm_dx(const Call& call, const Queue& queue) {
  const NormDxArgs a = norm_dx_args(call);
  const int width = narrow("norm_dx", a.width);
  const int64_t chunk = a.rows ? chunk_rows(a.rows) : 1, chunks = divide_up(a.rows, chunk);
  auto* partial = static_cast<float*>(call.workspace);
  if (chunks)
    with_types("norm_dx", a.x, a.dy, [&](auto x, auto d) {
      using X = decltype(x);
      using D = decltype(d);
      const Values add = values("norm_dx", a.add), dx = values("norm_dx", a.dx);
      const bool vector = packs_aligned(data<X>(a.x), a.width) && packs_aligned(data<D>(a.dy), a.width) && packs_aligned({add, dx}, a.width) && packs_aligned(data<float>(a.gamma), a.width) && packs_aligned(partial, a.width);
      const NormDxPointers<X, D> p{data<X>(a.x), data<float>(a.gamma), data<float>(a.mean), data<float>(a.rstd), data<D>(a.dy), add, dx,
                                   partial, a.rows, chunk, width, a.rms, vector};
      launch(queue.stream, "norm_dx", norm_dx_kernel<X, D>, dim3(grid_size("norm_dx", divide_up(chunks, kWarps))), dim3(32 * kWarps), 0, p);
    });
  launch(queue.stream, "norm_dx sums", sum_partial_rows, dim3(static_cast<unsigned>(divide_up(width, 128))), dim3(128), 0,
         static_cast<const float*>(partial), chunks, width, data<float>(a.dgamma), data<float>(a.dbeta));
}

}  // namespace longer::cuda
