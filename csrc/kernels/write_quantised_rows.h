// write_quantised_rows: row index[i] of y becomes row i of x in int8 (quantised_rows.h); the other rows of y stay as they are (in place).
// A row depends on itself alone. No index may occur twice.
#pragma once
#include "kernels/dense_check.h"
#include "kernels/quantised_rows.h"

namespace longer {

struct WriteQuantisedRowsArgs {
  Tensor index, x, y;
  int64_t rows, width, heads;

  QuantisedRows to() const { return QuantisedRows(y, width, heads); }
};

inline WriteQuantisedRowsArgs write_quantised_rows_args(const Call& call) {
  const DenseCheck check("write_quantised_rows", call);
  check.counts(2, 2, 1, 1, 1);
  WriteQuantisedRowsArgs a{call.input(0), call.input(1), call.output(0), call.input(1).rows(), call.input(1).cols(), call.integer(0)};
  check.matrix(a.x, a.rows, a.width, "the rows have a wrong type");
  check.require(a.heads > 0 && a.width % a.heads == 0 && a.width % 4 == 0, "the width is no multiple of the heads and of 4");
  check.require(a.y.present() && a.y.dtype == DType::i32 && a.y.cols() == quantised_words(a.width, a.heads), "the rows written must be i32 [rows, heads + width / 4]");
  check.indices(a.index, a.rows, "index must be i32 with a value for each row");
  return a;
}

inline void check_places(const WriteQuantisedRowsArgs& a) {
  for (int64_t i = 0; i < a.rows; ++i)
    if (a.index.i32()[i] < 0 || a.index.i32()[i] >= a.y.rows())
      throw std::runtime_error("write_quantised_rows: index[" + std::to_string(i) + "] is " + std::to_string(a.index.i32()[i]) + ", there are " +
                               std::to_string(a.y.rows()) + " rows");
}

}  // namespace longer
