// What stands for CUDA in a binary that was built without it.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/probe.h"
#include "runtime/error.h"

namespace longer {

CudaState cuda_state() {
  CudaState state;
  state.reason = "this binary was built without CUDA (LONGER_CUDA=OFF, or AUTO where no nvcc and GPU were found)";
  return state;
}

std::unique_ptr<Device> open_device(const std::string& name) {
  throw Error("ERR_DEVICE", "the device '" + name + "' cannot be used: " + cuda_state().reason +
                                ". Use the device 'cpu', or build where nvcc is: node scripts/build-native.cjs --CDLONGER_CUDA=ON");
}

namespace cuda {
const DeviceOp* find_device_op(const std::string&) { return nullptr; }
std::vector<std::string> device_op_names() { return {}; }
void look_for_non_finite(const char*, const Call&, Stream, int32_t*, int32_t) { throw Error("ERR_DEVICE", cuda_state().reason); }
}  // namespace cuda

}  // namespace longer
