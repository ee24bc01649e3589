// cast: y = x, rounded to nearest even where y is bf16 or f16.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct CastArgs {
  Tensor x, y;
};

inline CastArgs cast_args(const Call& call) {
  const DenseCheck check("cast", call);
  check.counts(1, 1, 1, 1, 0);
  check.same_shape(call.input(0), call.output(0), "x and y differ in shape");
  return {call.input(0), call.output(0)};
}

}  // namespace longer
