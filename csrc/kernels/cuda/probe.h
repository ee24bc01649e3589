// Is there a GPU that this build can use, and if not, why.
#pragma once
#include <string>
#include <vector>

namespace longer {

struct CudaState {
  bool built = false;
  bool usable = false;
  int device_count = 0;
  int driver_version = 0;   // as CUDA counts: 13000 is 13.0; 0 where no driver is
  int runtime_version = 0;
  std::string reason;       // empty where usable
  std::vector<std::string> names;
};

CudaState cuda_state();

// The index of the GPU called 'cuda:<index>'; throws ERR_DEVICE with what is wrong and what to do. In builds with CUDA.
int usable_gpu(const std::string& name);

}  // namespace longer
