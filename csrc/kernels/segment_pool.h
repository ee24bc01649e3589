// segment_pool: y[r] = sum or mean of the rows of segment r, ascending; an empty segment gives zeros.
// segment_pool_dx: dx[i] = dy[r], divided by the rows of the segment for a mean.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct SegmentPoolArgs {
  Tensor rows, pooled, offsets;  // or their gradients
  int64_t segments, width;
  bool mean;
};

inline SegmentPoolArgs segment_pool_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "segment_pool_dx" : "segment_pool", call);
  check.counts(2, 2, 1, 1, 1);
  SegmentPoolArgs a{backward ? call.output(0) : call.input(0), backward ? call.input(0) : call.output(0), call.input(1), 0, 0,
                    call.integer(0) == 1};
  check.require(call.integer(0) == 0 || call.integer(0) == 1, "unknown mode");
  a.segments = check.offsets(a.offsets, "offsets must be i32");
  a.width = a.rows.cols();
  check.matrix(a.rows, a.rows.rows(), a.width, "the rows have a wrong type");
  check.matrix(a.pooled, a.segments, a.width, "the pooled rows do not fit the segments");
  return a;
}

}  // namespace longer
