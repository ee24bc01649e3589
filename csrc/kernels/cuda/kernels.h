// The operations on the device. The same arguments and checks as on the CPU (kernels/<op>.h); every pointer of the call is
// device memory, and nothing waits for the device. Matrices are f32, bf16 or f16; vectors (bias, gamma, statistics) are f32.
#pragma once
#include "kernels/op.h"
#include "runtime/device.h"

namespace longer::cuda {

// Where a kernel is queued. Data that only the device sees can be illegal (an id past its table): a kernel then reads and
// writes nothing out of bounds, and leaves `code` in the word `fault`, for whoever waits for the run to throw.
struct Queue {
  Stream stream;
  int32_t* fault = nullptr;  // device memory, 0 before the run; null: not told. The largest code stays
  int32_t code = 1;
  bool tf32 = false;  // products of f32 may take TF32 numbers, 11 bits of each factor
};

using DeviceKernel = void (*)(const Call& call, const Queue& queue);

struct DeviceOp {
  const char* name;
  DeviceKernel run;
  Workspace workspace;  // bytes of device memory in Call::workspace, 256-byte aligned; nullptr for none
};

const DeviceOp* find_device_op(const std::string& name);  // nullptr where there is no kernel
std::vector<std::string> device_op_names();

// Leaves `code` in the word (the largest stays) where a float that the operation defines is NaN or Inf; what it leaves undefined,
// or gives as -inf on purpose, does not count.
void look_for_non_finite(const char* op, const Call& call, Stream stream, int32_t* word, int32_t code);

// dense
void linear(const Call& call, const Queue& queue);
void linear_dx(const Call& call, const Queue& queue);
void linear_dw(const Call& call, const Queue& queue);
void activation(const Call& call, const Queue& queue);
void activation_dx(const Call& call, const Queue& queue);
void norm(const Call& call, const Queue& queue);
void norm_dx(const Call& call, const Queue& queue);
void add(const Call& call, const Queue& queue);
void swiglu(const Call& call, const Queue& queue);
void swiglu_dx(const Call& call, const Queue& queue);
void gate(const Call& call, const Queue& queue);
void gate_dx(const Call& call, const Queue& queue);
void dropout(const Call& call, const Queue& queue);
void cast(const Call& call, const Queue& queue);
int64_t linear_workspace(const Call& call);
int64_t linear_dx_workspace(const Call& call);
int64_t linear_dw_workspace(const Call& call);
int64_t norm_dx_workspace(const Call& call);

// rows
void gather_rows(const Call& call, const Queue& queue);
void gather_rows_dx(const Call& call, const Queue& queue);
void write_rows(const Call& call, const Queue& queue);
void write_quantised_rows(const Call& call, const Queue& queue);
void merge(const Call& call, const Queue& queue);
void merge_dx(const Call& call, const Queue& queue);
void segment_pool(const Call& call, const Queue& queue);
void segment_pool_dx(const Call& call, const Queue& queue);
void concat(const Call& call, const Queue& queue);
void concat_dx(const Call& call, const Queue& queue);
void pair_features(const Call& call, const Queue& queue);
void pair_features_dx(const Call& call, const Queue& queue);
void pair_pool(const Call& call, const Queue& queue);
void pair_pool_dx(const Call& call, const Queue& queue);
int64_t gather_rows_dx_workspace(const Call& call);

// attention
void attention(const Call& call, const Queue& queue);
void attention_dx(const Call& call, const Queue& queue);
void candidate_attention(const Call& call, const Queue& queue);
void candidate_attention_dx(const Call& call, const Queue& queue);
void group_attention(const Call& call, const Queue& queue);
void group_attention_dx(const Call& call, const Queue& queue);
void inner_transformer(const Call& call, const Queue& queue);
void inner_transformer_dx(const Call& call, const Queue& queue);
void paged_attention(const Call& call, const Queue& queue);
void paged_candidate_attention(const Call& call, const Queue& queue);
void attention_probabilities(const Call& call, const Queue& queue);
void candidate_attention_probabilities(const Call& call, const Queue& queue);
int64_t attention_workspace(const Call& call);
int64_t attention_dx_workspace(const Call& call);
int64_t candidate_attention_workspace(const Call& call);
int64_t candidate_attention_dx_workspace(const Call& call);
int64_t group_attention_workspace(const Call& call);
int64_t group_attention_dx_workspace(const Call& call);
int64_t inner_transformer_dx_workspace(const Call& call);
int64_t paged_attention_workspace(const Call& call);
int64_t paged_candidate_attention_workspace(const Call& call);

// embedding
void embed(const Call& call, const Queue& queue);
void sparse_grad(const Call& call, const Queue& queue);
void time_bucket(const Call& call, const Queue& queue);
void rowwise_adagrad(const Call& call, const Queue& queue);
void sparse_adagrad(const Call& call, const Queue& queue);
void sparse_adam(const Call& call, const Queue& queue);
int64_t sparse_grad_workspace(const Call& call);

// training
void bce(const Call& call, const Queue& queue);
void bce_dx(const Call& call, const Queue& queue);
void sum_squares(const Call& call, const Queue& queue);
void clip_scale(const Call& call, const Queue& queue);
void update_loss_scale(const Call& call, const Queue& queue);
void adamw(const Call& call, const Queue& queue);
void rmsprop(const Call& call, const Queue& queue);
void accumulate(const Call& call, const Queue& queue);
void ema(const Call& call, const Queue& queue);
int64_t bce_workspace(const Call& call);
int64_t bce_dx_workspace(const Call& call);
int64_t sum_squares_workspace(const Call& call);

}  // namespace longer::cuda
