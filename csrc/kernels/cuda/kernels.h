// The operations on the device. The same arguments and checks as on the CPU (kernels/<op>.h); every pointer of the call is
// device memory, and nothing waits for the device. Matrices are f32 or bf16; vectors (bias, gamma, statistics) are f32.
#pragma once
#include "kernels/op.h"
#include "runtime/device.h"

namespace longer::cuda {

using DeviceKernel = void (*)(const Call& call, Stream stream);

struct DeviceOp {
  const char* name;
  DeviceKernel run;
  Workspace workspace;  // bytes of device memory in Call::workspace; nullptr for none
};

const DeviceOp* find_device_op(const std::string& name);  // nullptr where there is no kernel
std::vector<std::string> device_op_names();

void norm(const Call& call, Stream stream);
void norm_dx(const Call& call, Stream stream);
int64_t norm_dx_workspace(const Call& call);

}  // namespace longer::cuda
