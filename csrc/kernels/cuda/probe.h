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

}  // namespace longer
