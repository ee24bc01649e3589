// What CUDA calls say when they fail, as errors of ours. Some failures (an illegal address, a kernel that trapped) end the GPU's context of this
// process: every later call fails too, and so it is told.
#pragma once
#include <cuda_runtime.h>

#include <mutex>
#include <string>

#include "runtime/error.h"

namespace longer {

// What ended the context; empty while it works. All runtimes of the process share it.
struct ContextLoss {
  std::mutex mutex;
  std::string what;
};
inline ContextLoss context_loss;

inline bool ends_context(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

// Of a call that failed. ERR_MEMORY where memory is out, ERR_DEVICE_LOST where the context ended, ERR_DEVICE for everything else.
inline Error cuda_error(cudaError_t error, const std::string& doing) {
  cudaGetLastError();  // forget it: the next call must not report it again
  const std::string what = doing + ": " + cudaGetErrorString(error);
  const std::lock_guard<std::mutex> lock(context_loss.mutex);
  if (context_loss.what.empty() && ends_context(error)) context_loss.what = what;
  if (!context_loss.what.empty()) return device_lost(context_loss.what);
  return error == cudaErrorMemoryAllocation ? memory_error(what) : Error("ERR_DEVICE", what);
}

inline void check_context() {
  const std::lock_guard<std::mutex> lock(context_loss.mutex);
  if (!context_loss.what.empty()) throw device_lost(context_loss.what);
}

}  // namespace longer
