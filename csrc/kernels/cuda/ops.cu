// The list of operations that have a kernel on the device.
#include "kernels/cuda/kernels.h"

namespace longer::cuda {

namespace {

const DeviceOp kOps[] = {
    {"norm", norm, nullptr},
    {"norm_dx", norm_dx, norm_dx_workspace},
};

}  // namespace

const DeviceOp* find_device_op(const std::string& name) {
  for (const DeviceOp& op : kOps)
    if (name == op.name) return &op;
  return nullptr;
}

std::vector<std::string> device_op_names() {
  std::vector<std::string> names;
  for (const DeviceOp& op : kOps) names.emplace_back(op.name);
  return names;
}

}  // namespace longer::cuda
