#include "kernels/cuda/cuda_state.h"

#include <cstdlib>

#include "runtime/error.h"

namespace longer {

std::string without_gpu(const CudaState& state, const std::string& said) {
  if (state.driver_version == 0) return "no NVIDIA driver was found";
  if (state.driver_version < state.runtime_version) return "the NVIDIA driver is too old for CUDA 13 (r580 or newer is needed)";
  return said.empty() ? "a driver is there, but no GPU" : said;
}

int usable_gpu(const CudaState& state, const std::string& name) {
  const auto refused = [&](const char* code, const std::string& why) { return Error(code, "the device '" + name + "' cannot be used: " + why); };
  const std::string prefix = "cuda:";
  if (name.rfind(prefix, 0) != 0) throw refused("ERR_DEVICE", "this binary runs on GPUs and on the CPU. Use 'cuda:0' or 'cpu'");
  if (state.device_count == 0) {
    if (state.driver_version == 0) throw refused("ERR_DEVICE_NO_DRIVER", state.reason);
    if (state.driver_version < state.runtime_version) throw refused("ERR_DEVICE_OLD_DRIVER", state.reason);
    throw refused("ERR_DEVICE", state.reason + ". See whether nvidia-smi lists a GPU, or use the device 'cpu'");
  }
  const int index = std::atoi(name.c_str() + prefix.size());
  if (index < 0 || index >= state.device_count)
    throw refused("ERR_DEVICE", "there are " + std::to_string(state.device_count) + " GPUs. Name one from cuda:0 on");
  const auto at = static_cast<size_t>(index);
  if (state.architectures[at] < 80)
    throw refused("ERR_DEVICE_OLD", state.names[at] + " is of sm_" + std::to_string(state.architectures[at]) +
                                        ", and the oldest that this binary has code for is sm_80 (Ampere)");
  if (!state.usable) throw refused("ERR_DEVICE", state.reason + ". Use the device 'cpu'");
  return index;
}

}  // namespace longer
