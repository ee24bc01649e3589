// write_quantised_rows (kernels/write_quantised_rows.h): the bytes that the reference writes. A team of threads has a head of a row.
#include "kernels/write_quantised_rows.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

constexpr uint32_t kInfinity = 0x7f800000u, kNan = 0x7fc00000u;

__device__ __forceinline__ int32_t word_of(const float* v, float factor) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) word |= (static_cast<uint32_t>(static_cast<int32_t>(rintf(v[i] * factor))) & 0xffu) << (8 * i);
  return static_cast<int32_t>(word);
}

struct Quantise {
  Values x;
  QuantisedRows to;
  const int32_t* index;
  int64_t there;  // rows of y
  int heads, head_width;
  bool vector;    // of x
  int32_t *fault, code;

  __device__ __forceinline__ void put(int8_t* at, const float (&v)[kPack], int count, float factor) const {
    if (head_width % 4 == 0) {  // whole words, since those before the numbers are
#pragma unroll
      for (int i = 0; i < kPack; i += 4)
        if (i < count) reinterpret_cast<int32_t*>(at)[i / 4] = word_of(v + i, factor);
      return;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (i < count) at[i] = static_cast<int8_t>(static_cast<int32_t>(rintf(v[i] * factor)));
  }

  __device__ void operator()(int64_t item, const RowTeam& team) const {
    const int64_t row = item / heads, at = index[row];
    const int head = static_cast<int>(item - row * heads);
    if (at < 0 || at >= there) return report(fault, code);
    const int64_t from = item * head_width;
    uint32_t most = 0;  // bits of the largest magnitude: they order as magnitudes do, with what is not finite above all
    team.packs(head_width, [&](int c, int count) {
      float v[kPack];
      load_pack(v, x, from + c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) most = max(most, __float_as_uint(v[i]) & ~(1u << 31));
    });
    most = team.most(most);
    const float size = __uint_as_float(most);
    const bool finite = most < kInfinity, none = !finite || size < kLeastQuantised;
    if (team.lane == 0) to.set_scale(at, head, !finite ? __uint_as_float(kNan) : none ? 0.f : size / 127);
    const float factor = none ? 0.f : 127 / size;
    int8_t* numbers = to.numbers(at, head);
    team.packs(head_width, [&](int c, int count) {
      float v[kPack] = {};
      if (!none) load_pack(v, x, from + c, count, vector);
      put(numbers + c, v, count, factor);
    });
  }
};

}  // namespace

void write_quantised_rows(const Call& call, const Queue& queue) {
  const WriteQuantisedRowsArgs a = write_quantised_rows_args(call);
  const int64_t head_width = a.width / a.heads;
  const Values x = values("write_quantised_rows", a.x);
  each_row(queue, "write_quantised_rows", a.rows * a.heads, head_width,
           Quantise{x, a.to(), vector_of<int32_t>("write_quantised_rows", a.index), a.y.rows(), narrow("write_quantised_rows", a.heads),
                    narrow("write_quantised_rows", head_width), packs_aligned(x, head_width), queue.fault, queue.code});
}

}  // namespace longer::cuda
