// write_rows: row index[i] of y becomes row i of x; the other rows of y stay as they are (in place). No index may occur twice.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct WriteRowsArgs {
  Tensor index, x, y;
  int64_t rows, width;
};

inline WriteRowsArgs write_rows_args(const Call& call) {
  const DenseCheck check("write_rows", call);
  check.counts(2, 2, 1, 1, 0);
  WriteRowsArgs a{call.input(0), call.input(1), call.output(0), call.input(1).rows(), call.input(1).cols()};
  check.matrix(a.x, a.rows, a.width, "the rows have a wrong type");
  check.matrix(a.y, a.y.rows(), a.width, "the rows written differ from those given in width");
  check.indices(a.index, a.rows, "index must be i32 with a value for each row");
  return a;
}

inline void check_places(const WriteRowsArgs& a) {
  for (int64_t i = 0; i < a.rows; ++i)
    if (a.index.i32()[i] < 0 || a.index.i32()[i] >= a.y.rows())
      throw std::runtime_error("write_rows: index[" + std::to_string(i) + "] is " + std::to_string(a.index.i32()[i]) + ", there are " +
                               std::to_string(a.y.rows()) + " rows");
}

}  // namespace longer
