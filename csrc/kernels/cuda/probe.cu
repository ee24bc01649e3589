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
    state.reason = without_gpu(state, error == cudaSuccess || error == cudaErrorNoDevice ? "" : cudaGetErrorString(error));
    return state;
  }
  for (int i = 0; i < state.device_count; ++i) {
    cudaDeviceProp properties{};
    const bool known = cudaGetDeviceProperties(&properties, i) == cudaSuccess;
    state.names.push_back(known ? properties.name : "a GPU that does not answer");
    state.architectures.push_back(known ? properties.major * 10 + properties.minor : 0);
  }
  state.reason = try_kernel();
  state.usable = state.reason.empty();
  return state;
}

}  // namespace longer
