// What CUDA said of this machine, and whether plans can run on one of its GPUs. The same for the emulated device, which is told what to say.
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
  std::vector<int> architectures;  // a GPU each: 75, 80, 90...
};

// Why no GPU can be used, of a state whose device_count is 0; `said` is CUDA's own sentence for what is none of the usual cases.
std::string without_gpu(const CudaState& state, const std::string& said);

// The index of the GPU called 'cuda:<index>'. Throws, with what is wrong: ERR_DEVICE_NO_DRIVER, ERR_DEVICE_OLD_DRIVER, ERR_DEVICE_OLD for a GPU
// older than sm_80, ERR_DEVICE for everything else.
int usable_gpu(const CudaState& state, const std::string& name);

}  // namespace longer
