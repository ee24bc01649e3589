// cast (kernels/cast.h).
#include "kernels/cast.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Cast {
  Values x, y;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float v[kPack];
    load_pack(v, x, at, count, vector);
    store_pack(y, at, v, count, vector);
  }
};

}  // namespace

void cast(const Call& call, const Queue& queue) {
  const CastArgs a = cast_args(call);
  const Values x = values("cast", a.x), y = values("cast", a.y);
  pointwise(queue, "cast", a.x.size(), Cast{x, y, packs_aligned({x, y}, kPack)});
}

}  // namespace longer::cuda
