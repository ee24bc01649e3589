// The list of operations that have a kernel on the device.
#include "kernels/cuda/kernels.h"

namespace longer::cuda {

namespace {

const DeviceOp kOps[] = {
    {"linear", linear, linear_workspace},
    {"linear_dx", linear_dx, linear_dx_workspace},
    {"linear_dw", linear_dw, linear_dw_workspace},
    {"activation", activation, nullptr},
    {"activation_dx", activation_dx, nullptr},
    {"norm", norm, nullptr},
    {"norm_dx", norm_dx, norm_dx_workspace},
    {"add", add, nullptr},
    {"swiglu", swiglu, nullptr},
    {"swiglu_dx", swiglu_dx, nullptr},
    {"gate", gate, nullptr},
    {"gate_dx", gate_dx, nullptr},
    {"dropout", dropout, nullptr},
    {"cast", cast, nullptr},
    {"gather_rows", gather_rows, nullptr},
    {"gather_rows_dx", gather_rows_dx, gather_rows_dx_workspace},
    {"write_rows", write_rows, nullptr},
    {"write_quantised_rows", write_quantised_rows, nullptr},
    {"merge", merge, nullptr},
    {"merge_dx", merge_dx, nullptr},
    {"segment_pool", segment_pool, nullptr},
    {"segment_pool_dx", segment_pool_dx, nullptr},
    {"concat", concat, nullptr},
    {"concat_dx", concat_dx, nullptr},
    {"pair_features", pair_features, nullptr},
    {"pair_features_dx", pair_features_dx, nullptr},
    {"pair_pool", pair_pool, nullptr},
    {"pair_pool_dx", pair_pool_dx, nullptr},
    {"attention", attention, attention_workspace},
    {"attention_dx", attention_dx, attention_dx_workspace},
    {"candidate_attention", candidate_attention, candidate_attention_workspace},
    {"candidate_attention_dx", candidate_attention_dx, candidate_attention_dx_workspace},
    {"group_attention", group_attention, group_attention_workspace},
    {"group_attention_dx", group_attention_dx, group_attention_dx_workspace},
    {"inner_transformer", inner_transformer, nullptr},
    {"inner_transformer_dx", inner_transformer_dx, inner_transformer_dx_workspace},
    {"paged_attention", paged_attention, paged_attention_workspace},
    {"paged_candidate_attention", paged_candidate_attention, paged_candidate_attention_workspace},
    {"attention_probabilities", attention_probabilities, nullptr},
    {"candidate_attention_probabilities", candidate_attention_probabilities, nullptr},
    {"embed", embed, nullptr},
    {"sparse_grad", sparse_grad, sparse_grad_workspace},
    {"time_bucket", time_bucket, nullptr},
    {"rowwise_adagrad", rowwise_adagrad, nullptr},
    {"sparse_adagrad", sparse_adagrad, nullptr},
    {"sparse_adam", sparse_adam, nullptr},
    {"bce", bce, bce_workspace},
    {"bce_dx", bce_dx, bce_dx_workspace},
    {"sum_squares", sum_squares, sum_squares_workspace},
    {"clip_scale", clip_scale, nullptr},
    {"update_loss_scale", update_loss_scale, nullptr},
    {"adamw", adamw, nullptr},
    {"rmsprop", rmsprop, nullptr},
    {"accumulate", accumulate, nullptr},
    {"ema", ema, nullptr},
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
