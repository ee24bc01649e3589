// linear, linear_dx, linear_dw (kernels/linear.h), with what follows the product in the same kernel.
#include "kernels/linear.h"

#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/linear_end.cuh"
#include "kernels/cuda/linear_wgmma.h"
#include "kernels/cuda/row_sum.cuh"

namespace longer::cuda {

namespace {

// Column sums of dy by the same chunks.
struct ColumnSums {
  Values dy;
  float* to;
  int64_t rows, chunk;
  int outs;
  bool vector;
  __device__ void sum(int64_t part, int c, int count, RowSumShared& shared) const {
    const int64_t first = part * chunk;
    float total[kPack];
    sum_by_block(total, shared, min(chunk, rows - first), [&](int64_t i, float (&v)[kPack]) { load_pack(v, dy, (first + i) * outs + c, count, vector); });
    if (threadIdx.x < 32 && count > 0) store_pack(to + part * outs + c, total, count, false);
  }
};

struct AddParts {
  const float* parts;
  float* sum;
  int64_t size, count;
  __device__ void operator()(int64_t at, int here) const {
    for (int64_t i = at; i < at + here; ++i) {
      float total = 0;
      for (int64_t p = 0; p < count; ++p) total += parts[p * size + i];
      sum[i] = total;
    }
  }
};

// run(T{}) with the type of the product
template <class Run>
void with_product(DType type, const Queue& queue, Run&& run) {
  if (type == DType::bf16) run(Bf16{});
  else if (type == DType::f16) run(Half{});
  else if (queue.tf32) run(Tf32{});
  else run(float{});
}

// Rows of a chunk of dw: enough chunks for every GPU, by the shape alone; a multiple of a slab of either kernel.
int64_t chunk_rows(const LinearDwArgs& a) {
  const int64_t tiles = divide_up(a.ins, kTileM) * divide_up(a.outs, kTileN), chunks = std::max<int64_t>(1, 512 / std::max<int64_t>(1, tiles));
  return std::max<int64_t>(256, divide_up(divide_up(a.rows, chunks), 64) * 64);
}
int64_t chunks(const LinearDwArgs& a) { return divide_up(a.rows, chunk_rows(a)); }

}  // namespace

void linear(const Call& call, const Queue& queue) {
  const LinearArgs a = linear_args(call);
  const Values x = values("linear", a.x), w = values("linear", a.w);
  const int columns = narrow("linear", a.cols);
  const Forward finish = forward_of(a, columns);
  if (linear_by_wgmma(a, finish, call.workspace, queue)) return;
  with_product(x.type, queue, [&](auto t) {
    using T = decltype(t);
    gemm<T, false, false>(queue.stream, "linear", operand_of<T>(x, a.rows, a.inner), operand_of<T>(w, a.inner, a.cols),
                          {a.rows, columns, a.inner, std::max<int64_t>(a.inner, 1)}, finish);
  });
}

void linear_dx(const Call& call, const Queue& queue) {
  const LinearDxArgs a = linear_dx_args(call);
  const Values dy = values("linear_dx", a.dy), w = values("linear_dx", a.w);
  const int columns = narrow("linear_dx", a.cols);
  const Backward finish = backward_of(a, columns);
  if (linear_dx_by_wgmma(a, finish, call.workspace, queue)) return;
  with_product(dy.type, queue, [&](auto t) {
    using T = decltype(t);
    gemm<T, false, true>(queue.stream, "linear_dx", operand_of<T>(dy, a.rows, a.inner), operand_of<T>(w, a.cols, a.inner),
                         {a.rows, columns, a.inner, std::max<int64_t>(a.inner, 1)}, finish);
  });
}

int64_t linear_dw_workspace(const Call& call) {
  const LinearDwArgs a = linear_dw_args(call);
  return chunks(a) * (a.ins + 1) * a.outs * static_cast<int64_t>(sizeof(float));
}

void linear_dw(const Call& call, const Queue& queue) {
  const LinearDwArgs a = linear_dw_args(call);
  const Values x = values("linear_dw", a.x), dy = values("linear_dw", a.dy);
  const int outs = narrow("linear_dw", a.outs);
  const int64_t chunk = chunk_rows(a), parts = chunks(a), size = a.ins * a.outs;
  auto* dw_parts = static_cast<float*>(call.workspace);
  float* db_parts = dw_parts + parts * size;
  const Partial finish{dw_parts, size, outs};
  if (parts && !linear_dw_by_wgmma(a, finish, chunk, queue))
    with_product(x.type == dy.type ? x.type : DType::f32, queue, [&](auto t) {
      using T = decltype(t);
      gemm<T, true, false>(queue.stream, "linear_dw", operand_of<T>(x, a.rows, a.ins), operand_of<T>(dy, a.rows, a.outs),
                           {a.ins, outs, a.rows, chunk}, finish);
    });
  pointwise(queue, "linear_dw sum", size, AddParts{dw_parts, vector_of<float>("linear_dw", a.dw), size, parts});
  if (!a.db.present()) return;
  each_block_sum(queue, "linear_dw db", parts, outs, ColumnSums{dy, db_parts, a.rows, chunk, outs, packs_aligned(dy, a.outs)});
  pointwise(queue, "linear_dw db sum", a.outs, AddParts{db_parts, vector_of<float>("linear_dw", a.db), a.outs, parts});
}

}  // namespace longer::cuda
