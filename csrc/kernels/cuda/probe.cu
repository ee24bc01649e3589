// The device query, and one trivial kernel that proves that code for this GPU is in the binary.
#include <cuda_runtime.h>

#include <cstdlib>

#include "kernels/cuda/probe.h"
#include "runtime/error.h"

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

int usable_gpu(const std::string& name) {
  const auto refused = [&](const std::string& why, const char* remedy) {
    return Error("ERR_DEVICE", "the device '" + name + "' cannot be used: " + why + ". " + remedy);
  };
  const std::string prefix = "cuda:";
  if (name.rfind(prefix, 0) != 0) throw refused("this binary runs on GPUs and on the CPU", "Use 'cuda:0' or 'cpu'");
  const CudaState state = cuda_state();
  if (state.device_count == 0)
    throw refused(state.reason, state.driver_version == 0 ? "Install NVIDIA's driver r580 or newer, or use the device 'cpu'"
                                : state.driver_version < state.runtime_version ? "Install a newer driver, or use the device 'cpu'"
                                                                               : "See whether nvidia-smi lists a GPU, or use the device 'cpu'");
  const int index = std::atoi(name.c_str() + prefix.size());
  if (index < 0 || index >= state.device_count)
    throw refused("there are " + std::to_string(state.device_count) + " GPUs", "Name one from cuda:0 on");
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
  if (major < 8)
    throw refused(state.names[static_cast<size_t>(index)] + " is of sm_" + std::to_string(major) + std::to_string(minor) +
                      ", and the oldest that this binary has code for is sm_80 (Ampere)",
                  "Use a newer GPU or the device 'cpu'");
  if (!state.usable) throw refused(state.reason, "Use the device 'cpu'");
  return index;
}

}  // namespace longer
