// The forward pass of flash.h: an online softmax, in base 2, over tiles of keys.
#include "kernels/cuda/quantised_tile.cuh"

namespace longer::cuda {

namespace {

template <class T, int D>
struct ForwardShared {
  static constexpr int kKeys = kForwardKeys<T, D>;
  Tile<T, kTileRows, D> q;
  struct Stage {
    Tile<T, kKeys, D> k, v;
  } stage[2];
  FlashBands bands;
};

template <class T, int D, class Place>
using QuantisedNext = std::conditional_t<std::is_same_v<Place, InQuantisedPages>, QuantisedStage<T, kForwardKeys<T, D>, D>, int>;

// A thread's two rows, g and g + 8 of its warp's.
template <int D>
struct SoftmaxRows {
  float top[2], sum[2], o[D / 8][4];

  // Scores of a tile's keys from `key` on become weights, by the base 2 exponent.
  template <int kKeys>
  __device__ __forceinline__ void weigh(float (*scores)[4], int key, const Band (&band)[2], float scale) {
    const int column = key + threadIdx.x % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float peak = top[r];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int c = 2 * r; c < 2 * r + 2; ++c) {
          scores[n][c] = band[r].has(column + 8 * n + c % 2) ? scores[n][c] * scale : -INFINITY;
          peak = fmaxf(peak, scores[n][c]);
        }
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
      const float base = peak == -INFINITY ? 0.f : peak;  // nothing seen so far
      const float shrink = ptx::exp2_approx(top[r] - base);
      float total = 0;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int c = 2 * r; c < 2 * r + 2; ++c) {
          scores[n][c] = ptx::exp2_approx(scores[n][c] - base);
          total += scores[n][c];
        }
      // A tile's weights are added up among themselves, so that where in a tile a candidate's own keys lie does not matter.
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      top[r] = peak;
      sum[r] = sum[r] * shrink + total;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) o[n][2 * r] *= shrink, o[n][2 * r + 1] *= shrink;
    }
  }
};

struct FlashResults {
  void* o;           // or, where it is not wanted, what
  const void* d_o;
  float* delta;      // is made of it
  float* lse;        // null: not wanted
};

template <class T, int D, class Place>
__global__ void __launch_bounds__(kTileThreads, 2) flash_forward_kernel(FlashInput in, Place place, FlashResults out, TileList list) {
  using Shared = ForwardShared<T, D>;
  constexpr int kKeys = Shared::kKeys;
  constexpr bool kQuantised = std::is_same_v<Place, InQuantisedPages>;
  Shared& shared = shared_memory<Shared>();
  const TileItem item = list.items[blockIdx.x];
  if (item.request < 0) return;
  const FlashRows rows(in, item.request);
  const int row0 = item.tile * kTileRows, m0 = threadIdx.x / 32 * 16, head = blockIdx.y;
  const int column = head * in.head_width, last_column = column + in.head_width;
  const auto row_of = [&](int i) { return rows.at(row0 + i); };
  const auto row_of_sums = [&](int half) { return row_of(m0 + threadIdx.x % 32 / 4 + 8 * half); };
  shared.q.load(in.matrix(in.q), column, last_column, row_of);
  ptx::copy_async_commit();

  SoftmaxRows<D> x = {{-INFINITY, -INFINITY}, {0, 0}, {}};
  Left<T> q[D / kDepthStep<T>];
  bool has_q = false;
  for (int part = 0; part < (in.own_k ? 2 : 1); ++part) {
    const FlashKeys keys(in, item.request, part == 1, place);
    Band mine[2];
    __syncthreads();  // all are done with the last part's bands and stages
    const Band all = shared.bands.set(in, keys, row0, mine);
    const auto row_at = [&](int key) { return key < all.end ? keys.at(key) : -1; };
    [[maybe_unused]] QuantisedNext<T, D, Place> next;
    const auto load = [&](int key, int stage) {
      if (key < all.end) {
        if (kQuantised && part == 0) {
          if constexpr (kQuantised) next.begin(in, keys, head, [&](int i) { return place.k_row(row_at(key + i)); }, [&](int i) { return place.v_row(row_at(key + i)); });
        } else {
          shared.stage[stage].k.load(in.matrix(keys.k), column, last_column, [&](int i) { return part == 0 ? place.k_row(row_at(key + i)) : row_at(key + i); });
          shared.stage[stage].v.load(in.matrix(keys.v), column, last_column, [&](int i) { return part == 0 ? place.v_row(row_at(key + i)) : row_at(key + i); });
        }
      }
      ptx::copy_async_commit();
    };
    // What a load has left to do when the products are done.
    const auto finish = [&](int key, int stage) {
      if constexpr (kQuantised)
        if (part == 0 && key < all.end)
          next.finish(shared.stage[stage], in, keys, head, [&](int i) { return place.k_row(row_at(key + i)); }, [&](int i) { return place.v_row(row_at(key + i)); });
    };
    load(all.first, 0);
    finish(all.first, 0);
    for (int key = all.first, s = 0; key < all.end; key += kKeys, s ^= 1) {
      ptx::copy_async_wait<0>();
      __syncthreads();  // stage s is there, and the other is done with
      load(key + kKeys, s ^ 1);
      float p[kKeys / 8][4] = {};
      if constexpr (sizeof(T) == 2) {  // registers for q are there
        if (!has_q)
#pragma unroll
          for (int k = 0; k < D / kDepthStep<T>; ++k) load_factor<false>(q[k], shared.q, m0, k * kDepthStep<T>);
        has_q = true;
#pragma unroll
        for (int k = 0; k < D / kDepthStep<T>; ++k)
#pragma unroll
          for (int n = 0; n < kKeys; n += 16) {
            Right<T> b;
            load_factor<false>(b, shared.stage[s].k, n, k * kDepthStep<T>);
            multiply(p + n / 8, q[k], b);
          }
      } else {
        multiply_tiles<T, kKeys, D, false>(p, shared.q, m0, shared.stage[s].k);
      }
      x.template weigh<kKeys>(p, key, mine, in.scale_log2);
      multiply_weights<T, D, kKeys>(x.o, p, shared.stage[s].v);
      finish(key + kKeys, s ^ 1);
    }
  }
  ptx::copy_async_wait<0>();

  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = x.sum[r];
    inverse[r] = sum == 0 ? 0.f : 1.f / sum;  // no key: zeros
    const int64_t row = row_of_sums(r);
    if (out.lse && row >= 0 && threadIdx.x % 4 == 0) out.lse[row * in.heads + head] = x.top[r] == -INFINITY ? -INFINITY : x.top[r] * kLn2 + logf(sum);
  }
  __syncthreads();  // all are done with q
  if (out.delta) {
    shared.q.load(in.matrix(out.d_o), column, last_column, row_of);
    ptx::copy_async_commit();
    ptx::copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float dot = dot_sums<D>(shared.q, m0, x.o, r) * inverse[r];
      const int64_t row = row_of_sums(r);
      if (row >= 0 && threadIdx.x % 4 == 0) out.delta[row * in.heads + head] = dot;
    }
    return;
  }
  put_sums<D>(shared.q, m0, x.o, inverse[0], inverse[1]);
  __syncthreads();
  shared.q.store(in.matrix(out.o), column, last_column, row_of);
}

}  // namespace

int64_t flash_forward_workspace(const FlashTensors& t) {
  Parts parts(nullptr);
  take_list(parts, pitched_rows(t), t.requests);
  return parts.bytes();
}

void flash_forward(const char* name, const FlashTensors& t, void* workspace, const Queue& queue) {
  with_head(name, t, queue, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int D = decltype(width)::value;
    const FlashInput in = flash_input<T>(name, t);
    Parts parts(workspace);
    const TileList list = take_list(parts, pitched_rows(t), t.requests);
    list_tiles(queue, name, in.q_offsets, in.pitch, cost_of(t, in), t.requests, list);
    const FlashResults out{t.o.data, t.d_o.data, vector_of<float>(name, t.delta), vector_of<float>(name, t.lse)};
    const auto run = [&](auto place) {
      launch(queue.stream, name, flash_forward_kernel<T, D, decltype(place)>, dim3(grid_size(name, list.most), static_cast<unsigned>(in.heads)),
             dim3(kTileThreads), sizeof(ForwardShared<T, D>), in, place, out, list);
    };
    if (t.page_rows == 0) return run(InOrder{});
    const auto table = [&](const Tensor& pages, const Tensor& pool) { return InPages::Table{vector_of<int32_t>(name, pages), pool.dim[0] / t.page_rows}; };
    const InPages pages{table(t.k_tables, t.k), table(t.v_tables, t.v), in.k_offsets, t.k_tables.dim[0], narrow(name, t.page_rows), queue.fault, queue.code};
    if (t.k.dtype == DType::i32) run(InQuantisedPages{pages});
    else run(pages);
  });
}

}  // namespace longer::cuda
