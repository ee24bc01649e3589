// add: y = a + b + ..., 2 to 8 terms of one shape, summed left to right.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

constexpr int kMaxTerms = 8;

struct AddArgs {
  const Tensor* terms;
  int count;
  Tensor y;
};

inline AddArgs add_args(const Call& call) {
  const DenseCheck check("add", call);
  check.counts(2, kMaxTerms, 1, 1, 0);
  for (int i = 0; i < call.ins; ++i) check.same_shape(call.input(i), call.output(0), "a term differs from y in shape");
  return {call.in, call.ins, call.output(0)};
}

}  // namespace longer
