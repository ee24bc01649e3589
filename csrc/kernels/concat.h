// concat: the columns of the parts side by side. concat_dx: dy cut into the parts' columns.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

constexpr int kMostParts = 16;

struct ConcatArgs {
  const Tensor* parts;  // or their gradients
  int count;
  Tensor whole;
  int64_t rows, width;
};

inline ConcatArgs concat_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "concat_dx" : "concat", call);
  if (backward) check.counts(1, 1, 1, kMostParts, 0);
  else check.counts(1, kMostParts, 1, 1, 0);
  ConcatArgs a{backward ? call.out : call.in, backward ? call.outs : call.ins, backward ? call.input(0) : call.output(0), 0, 0};
  a.rows = a.whole.rows();
  a.width = a.whole.cols();
  int64_t sum = 0;
  for (int i = 0; i < a.count; ++i) {
    check.matrix(a.parts[i], a.rows, a.parts[i].cols(), "a part differs in rows or has a wrong type");
    sum += a.parts[i].cols();
  }
  check.matrix(a.whole, a.rows, sum, "the widths of the parts do not add up");
  return a;
}

}  // namespace longer
