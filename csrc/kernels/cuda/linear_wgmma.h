// The products of linear by wgmma (wgmma_gemm.cuh), where product_kernel.h takes it. False: nothing was queued.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/linear.h"

namespace longer::cuda {

struct Forward;
struct Backward;
struct Partial;

// `workspace`: what linear_workspace (linear_dx_workspace) asked for, for an f32 weight as it is multiplied.
bool linear_by_wgmma(const LinearArgs& a, const Forward& finish, void* workspace, const Queue& queue);
bool linear_dx_by_wgmma(const LinearDxArgs& a, const Backward& finish, void* workspace, const Queue& queue);
bool linear_dw_by_wgmma(const LinearDwArgs& a, const Partial& finish, int64_t chunk, const Queue& queue);

}  // namespace longer::cuda
