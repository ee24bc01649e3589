// The device query, and one trivial kernel that proves that code for this GPU is in the binary.
#include <cuda_runtime.h>

#include "kernels/cuda/probe.h"

namespace longer {

namespace {

__global__ void write_answer(int* out) { *out = 42; }

std::string try_kernel() {
  int* device = nullptr;
  int host = 0;
  cudaError_t error = cudaMalloc(&device, sizeof(int));
  if (error == cudaSuccess) {
    write_answer<<<1, 1>>>(device);
    error = cudaGetLastError();
    if (error == cudaSuccess) error = cudaMemcpy(&host, device, sizeof(int), cudaMemcpyDeviceToHost);
    cudaFree(device);
  }
  if (error == cudaErrorNoKernelImageForDevice) return "the GPU is older than sm_80 (Ampere), the oldest that this binary has code for";
  if (error != cudaSuccess) return std::string("a test kernel failed: ") + cudaGetErrorString(error);
  return host == 42 ? "" : "a test kernel gave a wrong result";
}

}  // namespace

CudaState cuda_state() {
  CudaState state;
  state.built = true;
  cudaRuntimeGetVersion(&state.runtime_version);
  cudaDriverGetVersion(&state.driver_version);
  const cudaError_t error = cudaGetDeviceCount(&state.device_count);
  if (error != cudaSuccess || state.device_count == 0) {
    state.device_count = 0;
    if (state.driver_version == 0) state.reason = "no NVIDIA driver was found";
    else if (state.driver_version < state.runtime_version) state.reason = "the NVIDIA driver is too old for CUDA 13 (r580 or newer is needed)";
    else state.reason = error == cudaErrorNoDevice ? "a driver is there, but no GPU" : cudaGetErrorString(error);
    return state;
  }
  for (int i = 0; i < state.device_count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) == cudaSuccess) state.names.push_back(properties.name);
  }
  state.reason = try_kernel();
  state.usable = state.reason.empty();
  return state;
}

}  // namespace longer
