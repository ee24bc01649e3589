// The backward pass of flash.h. The weights are computed again from lse; the gradients of rows and of keys are passes of their
// own, each over all that its tile meets in ascending order, so that nothing is added up between blocks.
#include "kernels/cuda/flash.cuh"

namespace longer::cuda {

namespace {

// What the passes read beside the input, a value for each row and head.
struct FlashGradients {
  const void* d_o;
  const float *lse, *delta;
  void *dq, *dk, *dv, *down_k, *down_v;
  TileList rows;
  int32_t* most;  // of a tile of rows, in the order of its request's: where the keys end that its rows see; null where not needed
};

// The weight of a score: 0 where lse is -inf, in rows that see nothing.
__device__ __forceinline__ float base_of(float lse) { return lse == -INFINITY ? INFINITY : lse * kLog2e; }

// delta_r = o_r . do_r of each row and head
struct Deltas {
  Values o, d_o;
  float* delta;
  int head_width;
  bool vector;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    float sum = 0;
    team.packs(head_width, [&](int c, int count) {
      float a[kPack], b[kPack];
      load_pack(a, o, row * head_width + c, count, vector);
      load_pack(b, d_o, row * head_width + c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum += a[i] * b[i];
    });
    sum = team.sum(sum);
    if (team.lane == 0) delta[row] = sum;
  }
};

// ---- dq: a block has 64 rows and goes over the keys that they see

template <class T, int D>
struct RowsShared {
  static constexpr int kKeys = kBackwardRows<T, D>;
  Tile<T, kTileRows, D> q, d_o;
  struct Stage {
    Tile<T, kKeys, D> k, v;
  } stage[2];
  FlashBands bands;
};

template <class T, int D>
__global__ void __launch_bounds__(kTileThreads, 2) flash_rows_kernel(FlashInput in, FlashGradients out) {
  using Shared = RowsShared<T, D>;
  constexpr int kKeys = Shared::kKeys;
  Shared& shared = shared_memory<Shared>();
  const TileItem item = out.rows.items[blockIdx.x];
  if (item.request < 0) return;
  const FlashRows rows(in, item.request);
  const int row0 = item.tile * kTileRows, m0 = threadIdx.x / 32 * 16, head = blockIdx.y;
  const int column = head * in.head_width, last_column = column + in.head_width;
  const auto row_of = [&](int i) { return rows.at(row0 + i); };
  shared.q.load(in.matrix(in.q), column, last_column, row_of);
  shared.d_o.load(in.matrix(out.d_o), column, last_column, row_of);
  ptx::copy_async_commit();

  float base[2] = {INFINITY, INFINITY}, delta[2] = {}, dq[D / 8][4] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t row = rows.at(row0 + m0 + threadIdx.x % 32 / 4 + 8 * r);
    if (row >= 0) base[r] = base_of(out.lse[row * in.heads + head]), delta[r] = out.delta[row * in.heads + head];
  }
  for (int part = 0; part < (in.own_k ? 2 : 1); ++part) {
    const FlashKeys keys(in, item.request, part == 1);
    Band mine[2];
    __syncthreads();  // all are done with the last part's bands and stages
    const Band all = shared.bands.set(in, keys, row0, mine);
    if (out.most && part == 0 && head == 0 && threadIdx.x == 0) out.most[out.rows.first[item.request] + item.tile] = all.end;
    const auto load = [&](int key, int stage) {
      const auto key_of = [&](int i) { return key + i < all.end ? keys.at(key + i) : -1; };
      if (key < all.end) {
        shared.stage[stage].k.load(in.matrix(keys.k), column, last_column, key_of);
        shared.stage[stage].v.load(in.matrix(keys.v), column, last_column, key_of);
      }
      ptx::copy_async_commit();
    };
    load(all.first, 0);
    for (int key = all.first, s = 0; key < all.end; key += kKeys, s ^= 1) {
      ptx::copy_async_wait<0>();
      __syncthreads();  // stage s is there, and the other is done with
      load(key + kKeys, s ^ 1);
      float p[kKeys / 8][4] = {}, ds[kKeys / 8][4] = {};
      multiply_tiles<T, kKeys, D, false>(p, shared.q, m0, shared.stage[s].k);
      multiply_tiles<T, kKeys, D, false>(ds, shared.d_o, m0, shared.stage[s].v);
      const int first = key + threadIdx.x % 4 * 2;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int r = c / 2;
          const float weight = mine[r].has(first + 8 * n + c % 2) ? ptx::exp2_approx(p[n][c] * in.scale_log2 - base[r]) : 0.f;
          ds[n][c] = weight * (ds[n][c] - delta[r]);
        }
      multiply_weights<T, D, kKeys>(dq, ds, shared.stage[s].k);
    }
  }
  ptx::copy_async_wait<0>();
  __syncthreads();  // all are done with q
  put_sums<D>(shared.q, m0, dq, in.scale, in.scale);
  __syncthreads();
  shared.q.store(in.matrix(out.dq), column, last_column, row_of);
}

// ---- dk and dv: a block has 64 keys and goes over the rows that see them

template <class T, int D>
struct KeysShared {
  static constexpr int kRows = kBackwardRows<T, D>;
  Tile<T, kTileRows, D> k, v;
  struct Stage {
    Tile<T, kRows, D> q, d_o;
    float base[kRows], delta[kRows];
    Band band[kRows];
  } stage[2];
};

template <class T, int D>
__global__ void __launch_bounds__(kTileThreads, 2) flash_keys_kernel(FlashInput in, FlashGradients out, TileList list, bool own) {
  using Shared = KeysShared<T, D>;
  constexpr int kRows = Shared::kRows;
  Shared& shared = shared_memory<Shared>();
  const TileItem item = list.items[blockIdx.x];
  if (item.request < 0) return;
  const FlashKeys keys(in, item.request, own);
  const FlashRows& rows = keys.rows;
  const int key0 = item.tile * kTileRows, m0 = threadIdx.x / 32 * 16, head = blockIdx.y;
  const int column = head * in.head_width, last_column = column + in.head_width;
  const auto key_of = [&](int i) { return keys.at(key0 + i); };
  shared.k.load(in.matrix(keys.k), column, last_column, key_of);
  shared.v.load(in.matrix(keys.v), column, last_column, key_of);

  const Band all = keys.seeing(in, key0, key0 + kTileRows - 1);
  // The next tile of rows of which any sees a key of this one.
  const int32_t* most = out.most ? out.most + out.rows.first[item.request] : nullptr;
  const auto next = [&](int row) {
    if (most)
      while (row < all.end && most[row / kTileRows] <= key0) row += kRows;
    return row;
  };
  const auto load = [&](int row0, int s) {
    if (row0 < all.end) {
      auto& stage = shared.stage[s];
      const auto row_of = [&](int i) { return row0 + i < all.end ? rows.at(row0 + i) : -1; };
      stage.q.load(in.matrix(in.q), column, last_column, row_of);
      stage.d_o.load(in.matrix(out.d_o), column, last_column, row_of);
      if (threadIdx.x < kRows) {
        const int i = threadIdx.x;
        const int64_t row = row_of(i);
        stage.base[i] = row < 0 ? INFINITY : base_of(out.lse[row * in.heads + head]);
        stage.delta[i] = row < 0 ? 0.f : out.delta[row * in.heads + head];
        stage.band[i] = keys.seen_by(in, row0 + i);
      }
    }
    ptx::copy_async_commit();
  };
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  int row = next(all.first);
  load(row, 0);
  for (int s = 0; row < all.end; s ^= 1) {
    ptx::copy_async_wait<0>();
    __syncthreads();  // stage s is there, and the other is done with
    row = next(row + kRows);
    load(row, s ^ 1);
    auto& stage = shared.stage[s];
    float p[kRows / 8][4] = {}, ds[kRows / 8][4] = {};
    const int lane = threadIdx.x % 32, key = key0 + m0 + lane / 4;
    // f(weight, ds, key, row of the stage) of each of this thread's pairs
    const auto each = [&](auto&& f) {
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c) f(p[n][c], ds[n][c], key + c / 2 * 8, 8 * n + lane % 4 * 2 + c % 2);
    };
    multiply_tiles<T, kRows, D, false>(p, shared.k, m0, stage.q);
    each([&](float& weight, float&, int k, int i) {
      weight = stage.band[i].has(k) ? ptx::exp2_approx(weight * in.scale_log2 - stage.base[i]) : 0.f;
    });
    multiply_weights<T, D, kRows>(dv, p, stage.d_o);
    multiply_tiles<T, kRows, D, false>(ds, shared.v, m0, stage.d_o);
    each([&](float weight, float& d, int, int i) { d = weight * (d - stage.delta[i]); });
    multiply_weights<T, D, kRows>(dk, ds, stage.q);
  }
  ptx::copy_async_wait<0>();
  __syncthreads();  // all are done with k and v
  put_sums<D>(shared.k, m0, dk, in.scale, in.scale);
  put_sums<D>(shared.v, m0, dv, 1.f, 1.f);
  __syncthreads();
  const FlashKeys again(in, item.request, own);  // not kept in registers
  const auto stored_at = [&](int i) { return again.at(key0 + i); };
  shared.k.store(in.matrix(own ? out.down_k : out.dk), column, last_column, stored_at);
  shared.v.store(in.matrix(own ? out.down_v : out.dv), column, last_column, stored_at);
}

struct Workspace {
  TileList rows, keys;
  int32_t* most;
  float* delta;
  int64_t bytes;
};

Workspace carve(const FlashTensors& t, void* memory) {
  Parts parts(memory);
  Workspace w;
  w.rows = take_list(parts, pitched_rows(t), t.requests);
  w.keys = take_list(parts, t.sight == Sight::prefix ? t.k.dim[0] : 0, t.sight == Sight::prefix ? t.requests : 0);
  w.most = parts.take<int32_t>(w.rows.most);
  w.delta = t.delta.present() ? static_cast<float*>(t.delta.data) : parts.take<float>(t.q.dim[0] * t.heads);
  w.bytes = parts.bytes();
  return w;
}

}  // namespace

int64_t flash_backward_workspace(const FlashTensors& t) { return carve(t, nullptr).bytes; }

void flash_backward(const char* name, const FlashTensors& t, void* workspace, const Queue& queue) {
  with_head(name, t, queue, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int D = decltype(width)::value;
    const FlashInput in = flash_input<T>(name, t);
    const Workspace w = carve(t, workspace);
    const Values o = values(name, t.o), d_o = values(name, t.d_o);
    if (!t.delta.present())
      each_row(queue, name, t.q.dim[0] * t.heads, t.head_width, Deltas{o, d_o, w.delta, in.head_width, packs_aligned({o, d_o}, t.head_width)});
    list_tiles(queue, name, in.q_offsets, in.pitch, cost_of(t, in), t.requests, w.rows);
    const FlashGradients out{t.d_o.data, vector_of<float>(name, t.lse), w.delta, t.dq.data, t.dk.data, t.dv.data, t.down_k.data, t.down_v.data,
                             w.rows, in.limits ? w.most : nullptr};
    const dim3 block(kTileThreads), row_tiles(grid_size(name, w.rows.most), static_cast<unsigned>(in.heads));
    launch(queue.stream, name, flash_rows_kernel<T, D>, row_tiles, block, sizeof(RowsShared<T, D>), in, out);
    const auto keys_kernel = flash_keys_kernel<T, D>;
    if (t.sight == Sight::prefix) {
      list_tiles(queue, name, in.k_offsets, 1, Counts{in.q_offsets, false}, t.requests, w.keys);
      launch(queue.stream, name, keys_kernel, dim3(grid_size(name, w.keys.most), row_tiles.y), block, sizeof(KeysShared<T, D>), in, out, w.keys, false);
    } else {
      launch(queue.stream, name, keys_kernel, row_tiles, block, sizeof(KeysShared<T, D>), in, out, w.rows, false);
    }
    if (t.own_k.present()) launch(queue.stream, name, keys_kernel, row_tiles, block, sizeof(KeysShared<T, D>), in, out, w.rows, true);
  });
}

}  // namespace longer::cuda
