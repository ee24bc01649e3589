// add (kernels/add.h).
#include "kernels/add.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Add {
  Values terms[kMaxTerms], y;
  int terms_count;
  bool vector;
  __device__ void operator()(int64_t at, int count) const {
    float sum[kPack], term[kPack];
    load_pack(sum, terms[0], at, count, vector);
    for (int t = 1; t < terms_count; ++t) {
      load_pack(term, terms[t], at, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += term[i];
    }
    store_pack(y, at, sum, count, vector);
  }
};

}  // namespace

void add(const Call& call, const Queue& queue) {
  const AddArgs a = add_args(call);
  Add op{};
  op.y = values("add", a.y);
  op.terms_count = a.count;
  op.vector = packs_aligned(op.y, kPack);
  for (int t = 0; t < a.count; ++t) {
    op.terms[t] = values("add", a.terms[t]);
    op.vector = op.vector && packs_aligned(op.terms[t], kPack);
  }
  pointwise(queue, "add", a.y.size(), op);
}

}  // namespace longer::cuda
