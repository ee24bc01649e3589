// pair_features, pair_pool and their gradients (kernels/pairs.h).
#include "kernels/pairs.h"

#include "kernels/cuda/row_sum.cuh"

namespace longer::cuda {

namespace {

struct Pairs {
  const int32_t *candidates, *events, *pairs;
  int64_t requests;

  struct Pair {
    int64_t candidate, event;
  };
  __device__ Pair of(int64_t p) const {
    const int64_t r = segment_of(pairs, requests, p), each = events[r + 1] - int64_t{events[r]}, i = p - pairs[r];
    return {candidates[r] + i / each, events[r] + i % each};
  }
};

Pairs pairs_of(const PairOffsets& at) { return {at.candidates, at.events, at.pairs, at.requests}; }

struct Features {
  Pairs at;
  Values c, e, y;
  int width;
  bool vector;
  __device__ void operator()(int64_t p, const RowTeam& team) const {
    const Pairs::Pair pair = at.of(p);
    team.packs(width, [&](int i, int count) {
      float left[kPack], right[kPack], v[kPack];
      load_pack(left, c, pair.candidate * width + i, count, vector);
      load_pack(right, e, pair.event * width + i, count, vector);
      const int64_t to = 4 * p * width + i;
      store_pack(y, to, left, count, vector);
      store_pack(y, to + width, right, count, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) v[k] = left[k] - right[k];
      store_pack(y, to + 2 * width, v, count, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) v[k] = left[k] * right[k];
      store_pack(y, to + 3 * width, v, count, vector);
    });
  }
};

struct FeaturesGradients {
  Pairs at;
  Values c, e, dy, dc, de;
  int width;
  bool vector;

  // What pair p gives to its candidate (first: part 0, sign 1, factor e) or its event (part 1, sign -1, factor c).
  __device__ __forceinline__ void share(float (&v)[kPack], int64_t p, int part, float sign, const float (&factor)[kPack], int i, int count) const {
    float difference[kPack], product[kPack];
    load_pack(v, dy, (4 * p + part) * width + i, count, vector);
    load_pack(difference, dy, (4 * p + 2) * width + i, count, vector);
    load_pack(product, dy, (4 * p + 3) * width + i, count, vector);
#pragma unroll
    for (int k = 0; k < kPack; ++k) v[k] += sign * difference[k] + product[k] * factor[k];
  }
  // dc, a block a candidate: the events of a request are many
  __device__ void sum(int64_t candidate, int i, int count, RowSumShared& shared) const {
    const int64_t r = segment_of(at.candidates, at.requests, candidate), first = at.events[r], events = at.events[r + 1] - first;
    const int64_t from = at.pairs[r] + (candidate - at.candidates[r]) * events;
    float total[kPack];
    sum_by_block(total, shared, events, [&](int64_t j, float (&v)[kPack]) {
      float event[kPack];
      load_pack(event, e, (first + j) * width + i, count, vector);
      share(v, from + j, 0, 1.f, event, i, count);
    });
    if (threadIdx.x < 32 && count > 0) store_pack(dc, candidate * width + i, total, count, vector);
  }
  // de
  __device__ void operator()(int64_t event, const RowTeam& team) const {
    const int64_t r = segment_of(at.events, at.requests, event), first = at.candidates[r], events = at.events[r + 1] - at.events[r];
    team.packs(width, [&](int i, int count) {
      float total[kPack];
      sum_by_thread(total, at.candidates[r + 1] - first, [&](int64_t j, float (&v)[kPack]) {
        float candidate[kPack];
        load_pack(candidate, c, (first + j) * width + i, count, vector);
        share(v, at.pairs[r] + j * events + event - at.events[r], 1, -1.f, candidate, i, count);
      });
      store_pack(de, event * width + i, total, count, vector);
    });
  }
};

struct Pool {
  Pairs at;
  Values w, e, y;
  int width;
  bool vector;
  __device__ void sum(int64_t candidate, int i, int count, RowSumShared& shared) const {
    const int64_t r = segment_of(at.candidates, at.requests, candidate), first = at.events[r], events = at.events[r + 1] - first;
    const int64_t from = at.pairs[r] + (candidate - at.candidates[r]) * events;
    float total[kPack];
    sum_by_block(total, shared, events, [&](int64_t j, float (&v)[kPack]) {
      const float weight = get(w, from + j);
      load_pack(v, e, (first + j) * width + i, count, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) v[k] *= weight;
    });
    if (threadIdx.x < 32 && count > 0) store_pack(y, candidate * width + i, total, count, vector);
  }
};

struct WeightGradient {
  Pairs at;
  Values e, dy, dw;
  int width;
  bool vector;
  __device__ void operator()(int64_t p, const RowTeam& team) const {
    const Pairs::Pair pair = at.of(p);
    float sum = 0;
    team.packs(width, [&](int i, int count) {
      float d[kPack], event[kPack];
      load_pack(d, dy, pair.candidate * width + i, count, vector);
      load_pack(event, e, pair.event * width + i, count, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum += d[k] * event[k];
    });
    sum = team.sum(sum);
    if (team.lane == 0) put(dw, p, sum);
  }
};

struct PooledGradient {
  Pairs at;
  Values w, dy, de;
  int width;
  bool vector;
  __device__ void operator()(int64_t event, const RowTeam& team) const {
    const int64_t r = segment_of(at.events, at.requests, event), first = at.candidates[r], events = at.events[r + 1] - at.events[r];
    team.packs(width, [&](int i, int count) {
      float total[kPack];
      sum_by_thread(total, at.candidates[r + 1] - first, [&](int64_t j, float (&v)[kPack]) {
        const float weight = get(w, at.pairs[r] + j * events + event - at.events[r]);
        load_pack(v, dy, (first + j) * width + i, count, vector);
#pragma unroll
        for (int k = 0; k < kPack; ++k) v[k] *= weight;
      });
      store_pack(de, event * width + i, total, count, vector);
    });
  }
};

}  // namespace

void pair_features(const Call& call, const Queue& queue) {
  const PairFeaturesArgs a = pair_features_args(call, false);
  const Values c = values("pair_features", a.c), e = values("pair_features", a.e), y = values("pair_features", a.y);
  const int width = narrow("pair_features", a.width);
  each_row(queue, "pair_features", a.pairs, a.width,
           Features{pairs_of(a.at), c, e, y, width, packs_aligned({c, e, y}, width)});
}

void pair_features_dx(const Call& call, const Queue& queue) {
  const PairFeaturesArgs a = pair_features_args(call, true);
  const int width = narrow("pair_features_dx", a.width);
  FeaturesGradients op{pairs_of(a.at), values("pair_features_dx", a.c), values("pair_features_dx", a.e), values("pair_features_dx", a.y),
                       values("pair_features_dx", a.dc), values("pair_features_dx", a.de), width, false};
  op.vector = packs_aligned({op.c, op.e, op.dy, op.dc, op.de}, width);
  each_block_sum(queue, "pair_features_dx candidates", a.candidates, width, op);
  each_row(queue, "pair_features_dx events", a.events, a.width, op);
}

void pair_pool(const Call& call, const Queue& queue) {
  const PairPoolArgs a = pair_pool_args(call, false);
  const Values e = values("pair_pool", a.e), y = values("pair_pool", a.y);
  const int width = narrow("pair_pool", a.width);
  each_block_sum(queue, "pair_pool", a.candidates, width,
                 Pool{pairs_of(a.at), values("pair_pool", a.w), e, y, width, packs_aligned({e, y}, width)});
}

void pair_pool_dx(const Call& call, const Queue& queue) {
  const PairPoolArgs a = pair_pool_args(call, true);
  const Values w = values("pair_pool_dx", a.w), e = values("pair_pool_dx", a.e), dy = values("pair_pool_dx", a.y);
  const Values dw = values("pair_pool_dx", a.dw), de = values("pair_pool_dx", a.de);
  const int width = narrow("pair_pool_dx", a.width);
  const bool vector = packs_aligned({e, dy, de}, width);
  each_row(queue, "pair_pool_dx weights", a.pairs, a.width, WeightGradient{pairs_of(a.at), e, dy, dw, width, vector});
  each_row(queue, "pair_pool_dx events", a.events, a.width, PooledGradient{pairs_of(a.at), w, dy, de, width, vector});
}

}  // namespace longer::cuda
