// attention_probabilities and candidate_attention_probabilities (kernels/attention_probabilities.h): what rows see is as flash.cuh
// says. A warp has a row, and teams of its threads the keys, each key's columns shared among a team; the row of p is where heads are
// added up, each column by one thread, in ascending order. Every product is computed twice, so that nothing else is kept.
#include "kernels/attention_probabilities.h"

#include "kernels/cuda/flash.cuh"

namespace longer::cuda {

namespace {

// Exponents' sum and the largest of them, in base 2.
struct Softmax {
  float top = -INFINITY, sum = 0;

  __device__ __forceinline__ float base(float largest) const { return largest == -INFINITY ? 0.f : largest; }
  __device__ __forceinline__ void add(float other_top, float other_sum) {
    const float largest = fmaxf(top, other_top), from = base(largest);
    sum = sum * ptx::exp2_approx(top - from) + other_sum * ptx::exp2_approx(other_top - from);
    top = largest;
  }
  __device__ __forceinline__ float weight(float score) const { return ptx::exp2_approx(score - base(top)); }
};

struct Probabilities {
  FlashInput in;
  float* p;
  int64_t rows, requests, most;
  int32_t *fault, code;

  // visit(keys, the first that the row sees, how many it sees), for the shared ones and then its own.
  template <class Visit>
  __device__ __forceinline__ void each_part(int request, int row, Visit&& visit) const {
    for (int part = 0; part < (in.own_k ? 2 : 1); ++part) {
      const FlashKeys keys(in, request, part == 1);
      const Band band = keys.seen_by(in, row);
      visit(keys, band.first, max(0, band.end - band.first));
    }
  }
  // visit(matrix, its row, column of p) for the keys that a team has.
  template <class Visit>
  __device__ __forceinline__ void each_key(int request, int row, int team, int teams, Visit&& visit) const {
    int64_t before = 0;
    each_part(request, row, [&](const FlashKeys& keys, int first, int count) {
      for (int i = team; i < count; i += teams) visit(keys.k, keys.at(first + i), before + i);
      before += count;
    });
  }

  // q . k of a head, in base 2, for every thread of the team.
  __device__ __forceinline__ float score(const void* k, int64_t k_row, int64_t q_row, int head, const RowTeam& team) const {
    const int64_t column = int64_t{head} * in.head_width;
    float sum = 0;
    team.packs(in.head_width, [&](int c, int count) {
      float a[kPack], b[kPack];
      load_pack(a, in.matrix(in.q).at, q_row * in.width + column + c, count, in.vector);
      load_pack(b, in.matrix(k).at, k_row * in.width + column + c, count, in.vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum += a[i] * b[i];
    });
    return team.sum(sum) * in.scale_log2;
  }

  // By a warp.
  __device__ __forceinline__ void operator()(int64_t r, const RowTeam& team) const {
    const int lane = threadIdx.x % 32, teams = 32 / team.size, mine = lane / team.size;
    const int64_t unit = r / in.unit;
    float* to = p + r * most;
    int64_t seen = 0;
    if (unit < in.q_offsets[requests]) {
      const int request = static_cast<int>(segment_of(in.q_offsets, requests, unit));
      const int row = static_cast<int>((unit - in.q_offsets[request]) * in.pitch + r % in.unit);  // as FlashRows counts
      each_part(request, row, [&](const FlashKeys&, int, int count) { seen += count; });
      if (seen > most) report(fault, code), seen = 0;
      for (int head = 0; head < (seen ? in.heads : 0); ++head) {
        Softmax all;
        each_key(request, row, mine, teams, [&](const void* k, int64_t k_row, int64_t) { all.add(score(k, k_row, r, head, team), 1); });
        __syncwarp();
        for (int by = team.size; by < 32; by *= 2) {
          const float top = __shfl_xor_sync(0xffffffffu, all.top, by), sum = __shfl_xor_sync(0xffffffffu, all.sum, by);
          all.add(top, sum);
        }
        const float share = 1 / (all.sum * static_cast<float>(in.heads));
        each_key(request, row, mine, teams, [&](const void* k, int64_t k_row, int64_t column) {
          const float weight = all.weight(score(k, k_row, r, head, team)) * share;
          if (team.lane == 0) to[column] = head == 0 ? weight : to[column] + weight;
        });
        __syncwarp();
      }
    }
    for (int64_t column = seen + lane; column < most; column += 32) to[column] = 0;
  }
};

__global__ void __launch_bounds__(kPointThreads, 4) probabilities_kernel(Probabilities op, int team) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kPointThreads / 32);
  for (int64_t row = (static_cast<int64_t>(blockIdx.x) * kPointThreads + threadIdx.x) / 32; row < op.rows; row += step)
    op(row, RowTeam{static_cast<int>(threadIdx.x) % team, team});
}

void probabilities(const char* name, const AttentionProbabilitiesArgs& a, const Queue& queue) {
  FlashTensors t;
  t.q = a.q, t.k = a.k, t.own_k = a.own_k;
  t.q_offsets = a.q_offsets, t.k_offsets = a.k_offsets, t.limits = a.limits;
  t.unit = a.rows_each;
  t.requests = a.requests, t.heads = a.heads, t.width = a.width, t.head_width = a.head_width;
  t.scale = a.scale;
  with_type(a.q, [&](auto type) {
    FlashInput in = flash_input<decltype(type)>(name, t);
    in.vector = in.vector && a.head_width % kPack == 0;
    const int64_t blocks = divide_up(a.rows(), kPointThreads / 32);
    launch(queue.stream, name, probabilities_kernel, dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks))), dim3(kPointThreads), 0,
           Probabilities{in, vector_of<float>(name, a.p), a.rows(), a.requests, a.most(), queue.fault, queue.code}, team_for(a.head_width));
  });
}

}  // namespace

void attention_probabilities(const Call& call, const Queue& queue) { probabilities("attention_probabilities", attention_probabilities_args(call, false), queue); }
void candidate_attention_probabilities(const Call& call, const Queue& queue) {
  probabilities("candidate_attention_probabilities", attention_probabilities_args(call, true), queue);
}

}  // namespace longer::cuda
