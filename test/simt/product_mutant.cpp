// The product on Hopper with one mistake, compiled once for each mutant: linear of bf16 alone, and in tiles of 64 columns.
#include "kernels/cuda/linear_end.cuh"
#include "kernels/cuda/wgmma_gemm.cuh"
#include "simt/mutant.h"

namespace {

#define NAME_OF(token) TEXT_OF(token)
#define TEXT_OF(token) #token

void run_linear(const longer::Call& call, longer::Stream stream) {
  using namespace longer::cuda;
  const longer::LinearArgs a = longer::linear_args(call);
  wgmma::gemm<Bf16, false, true, 64>(stream, "linear", {a.x.data, a.rows, a.inner}, {a.w.data, a.cols, a.inner}, a.inner, forward_of(a, static_cast<int>(a.cols)));
}

const bool listed = [] {
  simt::mutants()[NAME_OF(cuda)].forward = {run_linear, [](const longer::Call&) { return int64_t{0}; }};
  return true;
}();

}  // namespace
