// Is there a GPU that this build can use, and if not, why.
#pragma once
#include "kernels/cuda/cuda_state.h"

namespace longer {

CudaState cuda_state();

}  // namespace longer
