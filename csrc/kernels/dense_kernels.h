// The kernels behind dense_ops().
#pragma once
#include "kernels/op.h"

namespace longer {

namespace reference {
void linear(const Call& call);
void linear_dx(const Call& call);
void linear_dw(const Call& call);
void activation(const Call& call);
void activation_dx(const Call& call);
void norm(const Call& call);
void norm_dx(const Call& call);
void add(const Call& call);
void swiglu(const Call& call);
void swiglu_dx(const Call& call);
void gate(const Call& call);
void gate_dx(const Call& call);
void dropout(const Call& call);
void cast(const Call& call);
}  // namespace reference

namespace cpu {
void linear(const Call& call);
void linear_dx(const Call& call);
void linear_dw(const Call& call);
void activation(const Call& call);
void activation_dx(const Call& call);
void norm(const Call& call);
void norm_dx(const Call& call);
void add(const Call& call);
void swiglu(const Call& call);
void swiglu_dx(const Call& call);
void gate(const Call& call);
void gate_dx(const Call& call);
void dropout(const Call& call);
void cast(const Call& call);
int64_t linear_workspace(const Call& call);
extern const Prepare linear_prepare;  // the weights
int64_t linear_dx_workspace(const Call& call);
int64_t linear_dw_workspace(const Call& call);
int64_t norm_dx_workspace(const Call& call);
}  // namespace cpu

}  // namespace longer
