// segment_pool and segment_pool_dx (kernels/segment_pool.h).
#include "kernels/segment_pool.h"

#include "kernels/cuda/row_sum.cuh"

namespace longer::cuda {

namespace {

struct Forward {
  Values rows, pooled;
  const int32_t* offsets;
  int width;
  bool mean, vector;
  __device__ void sum(int64_t segment, int c, int count, RowSumShared& shared) const {
    const int64_t first = offsets[segment], size = offsets[segment + 1] - first;
    float total[kPack];
    sum_by_block(total, shared, size, [&](int64_t i, float (&v)[kPack]) { load_pack(v, rows, (first + i) * width + c, count, vector); });
    if (threadIdx.x >= 32 || count <= 0) return;
    const float share = mean && size > 0 ? 1.f / static_cast<float>(size) : 1.f;
#pragma unroll
    for (int i = 0; i < kPack; ++i) total[i] *= share;
    store_pack(pooled, segment * width + c, total, count, vector);
  }
};

struct Backward {
  Values rows, pooled;
  const int32_t* offsets;
  int64_t segments;
  int width;
  bool mean, vector;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    const int64_t segment = segment_of(offsets, segments, row);
    const float share = mean ? 1.f / static_cast<float>(offsets[segment + 1] - offsets[segment]) : 1.f;
    team.packs(width, [&](int c, int count) {
      float v[kPack];
      load_pack(v, pooled, segment * width + c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] *= share;
      store_pack(rows, row * width + c, v, count, vector);
    });
  }
};

}  // namespace

void segment_pool(const Call& call, const Queue& queue) {
  const SegmentPoolArgs a = segment_pool_args(call, false);
  const Values rows = values("segment_pool", a.rows), pooled = values("segment_pool", a.pooled);
  const int width = narrow("segment_pool", a.width);
  each_block_sum(queue, "segment_pool", a.segments, width,
                 Forward{rows, pooled, vector_of<int32_t>("segment_pool", a.offsets), width, a.mean,
                         packs_aligned(rows, a.width) && packs_aligned(pooled, a.width)});
}

void segment_pool_dx(const Call& call, const Queue& queue) {
  const SegmentPoolArgs a = segment_pool_args(call, true);
  const Values rows = values("segment_pool_dx", a.rows), pooled = values("segment_pool_dx", a.pooled);
  if (a.segments == 0) return;
  each_row(queue, "segment_pool_dx", a.rows.rows(), a.width,
           Backward{rows, pooled, vector_of<int32_t>("segment_pool_dx", a.offsets), a.segments, narrow("segment_pool_dx", a.width), a.mean,
                    packs_aligned(rows, a.width) && packs_aligned(pooled, a.width)});
}

}  // namespace longer::cuda
