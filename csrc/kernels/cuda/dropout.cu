// dropout (kernels/dropout.h): the bits of every element by its number alone.
#include "kernels/dropout.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Dropout {
  Values x, y;
  const int32_t* seed;
  uint64_t stream, first;
  uint32_t threshold;
  float scale;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    const uint32_t key0 = static_cast<uint32_t>(seed[0]), key1 = static_cast<uint32_t>(seed[1]);
    float v[kPack];
    load_pack(v, x, at, count, vector);
    PhiloxWords words{};
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const uint64_t element = first + static_cast<uint64_t>(at) + static_cast<uint64_t>(i), group = element / 4;
      if (i == 0 || element % 4 == 0)
        words = philox4x32_10({{static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), static_cast<uint32_t>(stream),
                                static_cast<uint32_t>(stream >> 32)}}, key0, key1);
      const int k = static_cast<int>(element % 4);
      const uint32_t word = k == 0 ? words.word[0] : k == 1 ? words.word[1] : k == 2 ? words.word[2] : words.word[3];
      v[i] = word >= threshold ? v[i] * scale : 0.f;
    }
    store_pack(y, at, v, count, vector);
  }
};

}  // namespace

void dropout(const Call& call, const Queue& queue) {
  const DropoutArgs a = dropout_args(call);
  const Values x = values("dropout", a.x), y = values("dropout", a.y);
  pointwise(queue, "dropout", a.x.size(),
            Dropout{x, y, vector_of<int32_t>("dropout", a.seed), a.stream, a.first, a.threshold(), static_cast<float>(1 / (1 - a.p)),
                    packs_aligned({x, y}, kPack)});
}

}  // namespace longer::cuda
