// How a kernel is started and how it finds its shared memory; the same words for nvcc and for the emulator.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "runtime/device.h"
#include "runtime/error.h"

#ifdef LONGER_SIMT
#include "simt/cuda.h"
#include "simt/emulated_device.h"
#else
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_error.h"
#endif

namespace longer {

// A block's shared memory is one struct, so that its size is known and its bounds can be checked.
template <class Smem>
__device__ __forceinline__ Smem& shared_memory() {
#ifdef LONGER_SIMT
  if (simt::current->shared_bytes < sizeof(Smem)) simt::fail("launched with less shared memory than the kernel's struct", {"shared_memory", __FILE__, __LINE__});
  return *reinterpret_cast<Smem*>(simt::current->shared);
#else
  extern __shared__ __align__(1024) unsigned char raw_shared_memory[];
  return *reinterpret_cast<Smem*>(raw_shared_memory);
#endif
}

// Nothing is started for a grid without blocks.
template <class... Parameters, class... Arguments>
void launch(Stream stream, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef LONGER_SIMT
  std::vector<const void*> words;
  if (simt::is_captured(stream)) (simt::add_words(words, arguments), ...);
  simt::enqueue(stream, [=] { simt::launch(name, grid, block, shared_bytes, [&] { kernel(Parameters(arguments)...); }); }, words);
#else
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error == cudaSuccess) {
    kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream.handle)>>>(Parameters(arguments)...);
    error = cudaGetLastError();
  }
  if (error != cudaSuccess) throw cuda_error(error, std::string("launching ") + name);
#endif
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace longer
