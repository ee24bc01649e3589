// write_rows (kernels/write_rows.h).
#include "kernels/write_rows.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Write {
  Values x, y;
  const int32_t* index;
  int64_t rows;  // of y
  int width;
  bool vector;
  int32_t *fault, code;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    const int64_t to = index[row];
    if (to < 0 || to >= rows) report(fault, code);
    else copy_row(y, to * width, x, row * width, width, true, vector, team);
  }
};

}  // namespace

void write_rows(const Call& call, const Queue& queue) {
  const WriteRowsArgs a = write_rows_args(call);
  const Values x = values("write_rows", a.x), y = values("write_rows", a.y);
  each_row(queue, "write_rows", a.rows, a.width,
           Write{x, y, vector_of<int32_t>("write_rows", a.index), a.y.rows(), narrow("write_rows", a.width), packs_aligned({x, y}, a.width), queue.fault, queue.code});
}

}  // namespace longer::cuda
