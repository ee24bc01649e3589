#include "kernels/cuda/probe.h"

namespace longer {

CudaState cuda_state() {
  CudaState state;
  state.reason = "this binary was built without CUDA (LONGER_CUDA=OFF, or AUTO where no nvcc and GPU were found)";
  return state;
}

}  // namespace longer
