#include "kernels/cuda/linear_wgmma.h"

#include "kernels/cuda/linear_end.cuh"
#include "kernels/cuda/product_kernel.h"
#include "kernels/cuda/wgmma_gemm.cuh"

namespace longer::cuda {

namespace {

constexpr Gpu kAnyHopper{90, 1, true};

bool takes(const LinearArgs& a, const Gpu& gpu) {
  return product_kernel({a.x.dtype, a.rows, a.cols, a.inner, std::min(a.cols, a.inner), {a.inner, a.cols, a.cols}}, gpu) == ProductKernel::wgmma;
}
bool takes(const LinearDxArgs& a, const Gpu& gpu) {
  return product_kernel({a.dy.dtype, a.rows, a.cols, a.inner, std::min(a.cols, a.inner), {a.inner, a.inner, a.cols}}, gpu) == ProductKernel::wgmma;
}
bool takes(const LinearDwArgs& a, const Gpu& gpu) {
  return a.x.dtype == a.dy.dtype &&
         product_kernel({a.x.dtype, a.ins, a.outs, a.rows, std::min(a.ins, a.outs), {a.ins, a.outs, a.outs}}, gpu) == ProductKernel::wgmma;
}

// The one thing that is not shape or type: memory that begins where TMA and packs cannot. A plan has none.
bool aligned(std::initializer_list<const void*> list) {
  return std::all_of(list.begin(), list.end(), [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

// Bytes for w rounded to the type of the product; before there is a GPU to ask, for any.
template <class Args>
int64_t rounded_bytes(const Args& a, const Tensor& w, DType type) {
  return w.dtype != type && takes(a, kAnyHopper) ? w.size() * dtype_size(type) : 0;
}

const void* as_multiplied(const Tensor& w, DType type, void* workspace, const Queue& queue) {
  if (w.dtype == type) return w.data;
  Tensor rounded = w;
  rounded.dtype = type, rounded.data = workspace;
  Call call;
  call.in = &w, call.ins = 1;
  call.out = &rounded, call.outs = 1;
  cast(call, queue);
  return workspace;
}

// run(T{}) with the type of both operands
template <class Run>
void with_operands(DType type, Run&& run) {
  if (type == DType::bf16) run(Bf16{});
  else run(Half{});
}

template <bool kTransposeB, class Finish>
void multiply(const char* name, DType type, const wgmma::Matrix& a, const wgmma::Matrix& b, const Finish& finish, const Queue& queue) {
  with_operands(type, [&](auto t) {
    using T = decltype(t);
    const int columns = wgmma_columns(b.rows);
    if (columns == 256) wgmma::gemm<T, false, kTransposeB, 256>(queue.stream, name, a, b, a.depth, finish);
    else if (columns == 128) wgmma::gemm<T, false, kTransposeB, 128>(queue.stream, name, a, b, a.depth, finish);
    else wgmma::gemm<T, false, kTransposeB, 64>(queue.stream, name, a, b, a.depth, finish);
  });
}

}  // namespace

int64_t linear_workspace(const Call& call) {
  const LinearArgs a = linear_args(call);
  return rounded_bytes(a, a.w, a.x.dtype);
}
int64_t linear_dx_workspace(const Call& call) {
  const LinearDxArgs a = linear_dx_args(call);
  return rounded_bytes(a, a.w, a.dy.dtype);
}

bool linear_by_wgmma(const LinearArgs& a, const Forward& finish, void* workspace, const Queue& queue) {
  if (!takes(a, current_gpu()) || !aligned({a.x.data, a.w.data, a.bias.data, a.residual.data, a.pre.data, a.y.data})) return false;
  if (a.rows) multiply<true>("linear", a.x.dtype, {a.x.data, a.rows, a.inner}, {as_multiplied(a.w, a.x.dtype, workspace, queue), a.cols, a.inner}, finish, queue);
  return true;
}

bool linear_dx_by_wgmma(const LinearDxArgs& a, const Backward& finish, void* workspace, const Queue& queue) {
  if (!takes(a, current_gpu()) || !aligned({a.dy.data, a.w.data, a.pre.data, a.add.data, a.dx.data})) return false;
  if (a.rows) multiply<false>("linear_dx", a.dy.dtype, {a.dy.data, a.rows, a.inner}, {as_multiplied(a.w, a.dy.dtype, workspace, queue), a.cols, a.inner}, finish, queue);
  return true;
}

// In tiles of 128 columns: with the chunks of rows, some 128 of them for a GPU of 132 processors.
bool linear_dw_by_wgmma(const LinearDwArgs& a, const Partial& finish, int64_t chunk, const Queue& queue) {
  if (!takes(a, current_gpu()) || !aligned({a.x.data, a.dy.data, finish.to})) return false;
  with_operands(a.x.dtype, [&](auto t) {
    wgmma::gemm<decltype(t), true, true, 128>(queue.stream, "linear_dw", {a.x.data, a.ins, a.rows}, {a.dy.data, a.outs, a.rows}, chunk, finish);
  });
  return true;
}

}  // namespace longer::cuda
