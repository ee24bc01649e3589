#include "kernels/dense_kernels.h"

namespace longer {

OpList dense_ops() {
  static const Op ops[] = {
      {"linear", reference::linear, cpu::linear, cpu::linear_workspace, &cpu::linear_prepare},
      {"linear_dx", reference::linear_dx, cpu::linear_dx, cpu::linear_dx_workspace},
      {"linear_dw", reference::linear_dw, cpu::linear_dw, cpu::linear_dw_workspace},
      {"activation", reference::activation, cpu::activation, nullptr},
      {"activation_dx", reference::activation_dx, cpu::activation_dx, nullptr},
      {"norm", reference::norm, cpu::norm, nullptr},
      {"norm_dx", reference::norm_dx, cpu::norm_dx, cpu::norm_dx_workspace},
      {"add", reference::add, cpu::add, nullptr},
      {"swiglu", reference::swiglu, cpu::swiglu, nullptr},
      {"swiglu_dx", reference::swiglu_dx, cpu::swiglu_dx, nullptr},
      {"gate", reference::gate, cpu::gate, nullptr},
      {"gate_dx", reference::gate_dx, cpu::gate_dx, nullptr},
      {"dropout", reference::dropout, cpu::dropout, nullptr},
      {"cast", reference::cast, cpu::cast, nullptr},
  };
  return {ops, static_cast<int>(sizeof ops / sizeof ops[0])};
}

}  // namespace longer
