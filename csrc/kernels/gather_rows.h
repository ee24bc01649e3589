// gather_rows: y[i] = row index[i] of the sources laid end to end; a negative index gives a zero row.
// gather_rows_dx: d_s[j] = sum of dy[i] over the i whose index names row j of source s, i ascending.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

constexpr int kMostSources = 8;

struct GatherRowsArgs {
  Tensor index, y;        // y or dy
  const Tensor* sources;  // or their gradients
  int count;
  int64_t rows, width;
};

inline GatherRowsArgs gather_rows_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "gather_rows_dx" : "gather_rows", call);
  if (backward) check.counts(2, 2, 1, kMostSources, 0);
  else check.counts(2, 1 + kMostSources, 1, 1, 0);
  GatherRowsArgs a{call.input(0), backward ? call.input(1) : call.output(0), backward ? call.out : call.in + 1,
                   backward ? call.outs : call.ins - 1, 0, 0};
  a.rows = a.y.rows();
  a.width = a.y.cols();
  check.matrix(a.y, a.rows, a.width, "the gathered rows have a wrong type");
  check.indices(a.index, a.rows, "index must be i32 with a value for each gathered row");
  for (int s = 0; s < a.count; ++s)
    check.matrix(a.sources[s], a.sources[s].rows(), a.width, "a source differs from the gathered rows in width");
  return a;
}

}  // namespace longer
