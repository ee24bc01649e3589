// Does the emulator find bugs? Two correct kernels, and variants with one mistake each (planted.h).
#include <cmath>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "simt/planted.h"

using namespace longer;

namespace {

enum class Bug {
  none, no_wait, no_barrier_after_wait, no_barrier_before_reuse, shared_row_too_far, global_past_end, visibility_off_by_one, uninitialised,
  no_barrier_before_warp_sums, part_of_mask, lane_left, divergent_barrier, plain_sum_between_blocks, ticket_without_order, cyclic_barriers,
  wrong_parity, no_barrier_after_init, ignores_empty, short_expect, wrong_step, no_wgmma_wait, released_too_early, lanes_disagree,
};

// ---- sums of rows, tile by tile: asynchronous copies, shuffles, block and grid reductions

constexpr int kTile = 32, kRows = 64;  // a tile: 64 rows of 32 floats, a thread a row

struct SumSmem {
  alignas(16) float tile[2][kRows][kTile + 4];
  float warp_sum[2];
  int last;
};

struct SumArgs {
  const float* x;  // [rows, width]
  int rows, width, limit;  // columns up to and including `limit` count
  float *of_block, *total, *relaxed;
  int* tickets;
};

template <Bug kBug>
void sum_kernel(SumArgs a) {
  auto& s = shared_memory<SumSmem>();
  const int t = threadIdx.x, first = blockIdx.x * kRows, tiles = a.width / kTile;
  const auto load = [&](int tile) {
    for (int i = t; i < kRows * kTile / 4; i += kRows) {
      const int row = i / (kTile / 4), chunk = i % (kTile / 4);
      const bool inside = kBug == Bug::global_past_end || first + row < a.rows;
      const int to = kBug == Bug::shared_row_too_far ? row + 1 : row;
      ptx::copy_async_16(&s.tile[tile % 2][to][4 * chunk], inside ? a.x + static_cast<int64_t>(first + row) * a.width + tile * kTile + 4 * chunk : a.x, inside);
    }
    ptx::copy_async_commit();
  };
  float sum = 0;
  load(0);
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      load(tile + 1);
      ptx::copy_async_wait<1>();
    } else if (kBug != Bug::no_wait) {
      ptx::copy_async_wait<0>();
    }
    if (kBug != Bug::no_barrier_after_wait) __syncthreads();
    for (int c = 0; c < kTile; ++c) {
      const int column = tile * kTile + c;
      if (kBug == Bug::visibility_off_by_one ? column < a.limit : column <= a.limit) sum += s.tile[tile % 2][(t * 7) % kRows][c];
    }
    if (kBug != Bug::no_barrier_before_reuse) __syncthreads();
  }
  if (kBug == Bug::no_wait) ptx::copy_async_wait<0>();
  if (kBug == Bug::lane_left && t == 40) return;
  if (kBug == Bug::divergent_barrier && t < 32) __syncthreads();
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(kBug == Bug::part_of_mask ? 0xffffu : 0xffffffffu, sum, by);
  if (t % 32 == 0 && kBug != Bug::uninitialised) s.warp_sum[t / 32] = sum;
  if (t == 0 && kBug == Bug::uninitialised) s.warp_sum[0] = sum;
  if (kBug != Bug::no_barrier_before_warp_sums && kBug != Bug::divergent_barrier) __syncthreads();
  if (kBug == Bug::divergent_barrier && t >= 32) __syncthreads();
  if (t == 0) {
    const float block = s.warp_sum[0] + s.warp_sum[1];
    a.of_block[blockIdx.x] = block;
    if (kBug == Bug::plain_sum_between_blocks) *a.relaxed += block;
    else atomicAdd(a.relaxed, block);
    s.last = kBug == Bug::ticket_without_order ? atomicAdd(a.tickets, 1) : ptx::add_acquire_release(a.tickets, 1);
    if (s.last == static_cast<int>(gridDim.x) - 1) {
      float total = 0;
      for (unsigned b = 0; b < gridDim.x; ++b) total += a.of_block[b];
      *a.total = total;
    }
  }
  if (kBug == Bug::cyclic_barriers) {
    ptx::barrier_sync(t < 32 ? 1 : 2, 64);
    ptx::barrier_sync(t < 32 ? 2 : 1, 64);
  }
}

bool run_sum(Bug bug) {
  const int rows = 3 * kRows - 5, width = 4 * kTile, limit = 100, blocks = 3;
  float* x = static_cast<float*>(std::aligned_alloc(16, static_cast<size_t>(rows) * width * 4));
  double expected = 0;
  for (int i = 0; i < rows * width; ++i) {
    x[i] = static_cast<float>(i * 37 % 101) / 4;
    if (i % width <= limit) expected += x[i];
  }
  std::vector<float> of_block(blocks);
  float total = NAN, relaxed = 0;
  int tickets = 0;
  const SumArgs a{x, rows, width, limit, of_block.data(), &total, &relaxed, &tickets};
  const auto go = [&](auto kernel) { launch(Stream{}, "sum", kernel, dim3(blocks), dim3(kRows), sizeof(SumSmem), a); };
  switch (bug) {
#define CASE(name) case Bug::name: go(sum_kernel<Bug::name>); break;
    CASE(none) CASE(no_wait) CASE(no_barrier_after_wait) CASE(no_barrier_before_reuse) CASE(shared_row_too_far) CASE(global_past_end)
    CASE(visibility_off_by_one) CASE(uninitialised) CASE(no_barrier_before_warp_sums) CASE(part_of_mask) CASE(lane_left) CASE(divergent_barrier)
    CASE(plain_sum_between_blocks) CASE(ticket_without_order) CASE(cyclic_barriers)
#undef CASE
    default: return false;
  }
  std::free(x);
  return total == static_cast<float>(expected) && relaxed == static_cast<float>(expected);
}

// ---- a 64 x 64 x K product in Hopper's way: one warp asks for tiles, four multiply

constexpr int kStages = 2, kDepth = 64 * 5;

struct PipeSmem {
  struct Stage {
    alignas(1024) uint16_t a[64 * 64], b[64 * 64];
  } stage[kStages];
  uint64_t full[kStages], empty[kStages];
};

template <Bug kBug>
void pipe_kernel(const TensorMap* map_a, const TensorMap* map_b, float* d) {
  auto& s = shared_memory<PipeSmem>();
  const int t = threadIdx.x;
  if (t == 128) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], 128);
    }
    ptx::mbarrier_init_fence();
  }
  if (kBug != Bug::no_barrier_after_init) __syncthreads();
  if (t >= 128) {
    if (t != 128) return;
    for (int i = 0; i < kDepth / 64; ++i) {
      const int at = i % kStages, phase = i / kStages % 2;
      if (kBug != Bug::ignores_empty) ptx::mbarrier_wait(&s.empty[at], kBug == Bug::wrong_parity ? phase : phase ^ 1);
      ptx::mbarrier_arrive_expect(&s.full[at], (kBug == Bug::short_expect ? 1 : 2) * 64 * 64 * 2);
      ptx::tma_load_2d(s.stage[at].a, map_a, &s.full[at], i * 64, 0);
      ptx::tma_load_2d(s.stage[at].b, map_b, &s.full[at], i * 64, 0);
    }
    return;
  }
  float acc[32];
  for (int i = 0; i < kDepth / 64; ++i) {
    const int at = i % kStages, phase = i / kStages % 2;
    ptx::mbarrier_wait(&s.full[at], phase);
    ptx::wgmma_fence();
    for (int k = 0; k < 4; ++k) {
      const int step = kBug == Bug::wrong_step ? 16 * k : 32 * k, other = kBug == Bug::lanes_disagree && t % 32 == 3 ? 1024 : 0;
      ptx::wgmma_bf16<false, false>(acc, matrix_descriptor(ptx::shared_address(s.stage[at].a) + step + other, 16, 1024, Swizzle::b128),
                                    matrix_descriptor(ptx::shared_address(s.stage[at].b) + step, 16, 1024, Swizzle::b128), i > 0 || k > 0);
    }
    ptx::wgmma_commit();
    if (kBug == Bug::released_too_early) ptx::mbarrier_arrive(&s.empty[at]);
    if (kBug == Bug::no_wgmma_wait) ptx::wgmma_wait<1>();
    else ptx::wgmma_wait<0>();
    if (kBug != Bug::released_too_early) ptx::mbarrier_arrive(&s.empty[at]);
  }
  for (int i = 0; i < 32; ++i) d[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + t % 4 * 2 + i % 2] = acc[i];
}

bool run_pipe(Bug bug) {
  alignas(16) static uint16_t a[64 * kDepth], b[64 * kDepth];
  static float fa[64 * kDepth], fb[64 * kDepth], d[64 * 64];
  for (int i = 0; i < 64 * kDepth; ++i) {
    fa[i] = static_cast<float>(i * 29 % 31 - 15) / 8, fb[i] = static_cast<float>(i * 17 % 23 - 11) / 8;
    a[i] = static_cast<uint16_t>(ptx::pack_bf16(fa[i], 0)), b[i] = static_cast<uint16_t>(ptx::pack_bf16(fb[i], 0));
  }
  const TensorMap map_a = tensor_map_2d(a, 64, kDepth, kDepth * 2, 64, 64, Swizzle::b128), map_b = tensor_map_2d(b, 64, kDepth, kDepth * 2, 64, 64, Swizzle::b128);
  const auto go = [&](auto kernel) { launch(Stream{}, "pipe", kernel, dim3(1), dim3(256), sizeof(PipeSmem), &map_a, &map_b, static_cast<float*>(d)); };
  switch (bug) {
#define CASE(name) case Bug::name: go(pipe_kernel<Bug::name>); break;
    CASE(none) CASE(wrong_parity) CASE(no_barrier_after_init) CASE(ignores_empty) CASE(short_expect) CASE(wrong_step) CASE(no_wgmma_wait)
    CASE(released_too_early) CASE(lanes_disagree)
#undef CASE
    default: return false;
  }
  for (int r = 0; r < 64; ++r)
    for (int c = 0; c < 64; ++c) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += fa[r * kDepth + k] * fb[c * kDepth + k];
      if (!(std::fabs(sum - d[r * 64 + c]) < 1e-3f)) return false;
    }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace simt;
  const std::vector<Planted> planted = {
      {"nothing (sums)", [] { return run_sum(Bug::none); }, 0},
      {"nothing (Hopper pipeline)", [] { return run_pipe(Bug::none); }, 0},
      {"copy never waited for", [] { return run_sum(Bug::no_wait); }, every},
      {"no barrier after the wait for a copy", [] { return run_sum(Bug::no_barrier_after_wait); }, every},
      {"no barrier before a buffer is used again", [] { return run_sum(Bug::no_barrier_before_reuse); }, every},
      {"shared row too far", [] { return run_sum(Bug::shared_row_too_far); }, every},
      {"rows read past the end of global memory", [] { return run_sum(Bug::global_past_end); }, asan},
      {"visibility < for <=", [] { return run_sum(Bug::visibility_off_by_one); }, every},
      {"shared memory never written", [] { return run_sum(Bug::uninitialised); }, every},
      {"no barrier before the sums of warps meet", [] { return run_sum(Bug::no_barrier_before_warp_sums); }, every},
      {"shuffle by lanes that the mask does not name", [] { return run_sum(Bug::part_of_mask); }, every},
      {"a lane left before a shuffle", [] { return run_sum(Bug::lane_left); }, every},
      {"__syncthreads in two branches", [] { return run_sum(Bug::divergent_barrier); }, every},
      {"plain += between blocks", [] { return run_sum(Bug::plain_sum_between_blocks); }, tsan},
      {"ticket that orders nothing", [] { return run_sum(Bug::ticket_without_order); }, tsan},
      {"two barriers in opposite order", [] { return run_sum(Bug::cyclic_barriers); }, every},
      {"wrong parity", [] { return run_pipe(Bug::wrong_parity); }, every},
      {"no barrier after mbarrier init", [] { return run_pipe(Bug::no_barrier_after_init); }, every},
      {"producer ignores the empty barrier", [] { return run_pipe(Bug::ignores_empty); }, every},
      {"too few bytes expected", [] { return run_pipe(Bug::short_expect); }, every},
      {"wrong step of a descriptor", [] { return run_pipe(Bug::wrong_step); }, every},
      {"accumulators read before the last product is there", [] { return run_pipe(Bug::no_wgmma_wait); }, every},
      {"stage given back before its product is done", [] { return run_pipe(Bug::released_too_early); }, every},
      {"lanes with different descriptors", [] { return run_pipe(Bug::lanes_disagree); }, every},
  };
  return report_planted("planted_test " SIMT_TIER, planted, argc > 1 ? argv[1] : "");
}
