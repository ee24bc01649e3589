#include "kernels/attention_kernels.h"

namespace longer {

OpList attention_ops() {
  static const Op ops[] = {
      {"attention", reference::attention, cpu::attention, cpu::attention_workspace},
      {"attention_dx", reference::attention_dx, cpu::attention_dx, cpu::attention_dx_workspace},
      {"candidate_attention", reference::candidate_attention, cpu::candidate_attention, cpu::candidate_attention_workspace},
      {"candidate_attention_dx", reference::candidate_attention_dx, cpu::candidate_attention_dx,
       cpu::candidate_attention_dx_workspace},
      {"group_attention", reference::group_attention, cpu::group_attention, cpu::group_attention_workspace},
      {"group_attention_dx", reference::group_attention_dx, cpu::group_attention_dx, cpu::group_attention_dx_workspace},
      {"inner_transformer", reference::inner_transformer, nullptr, nullptr},
      {"inner_transformer_dx", reference::inner_transformer_dx, nullptr, nullptr},
      {"paged_attention", reference::paged_attention, cpu::paged_attention, cpu::paged_attention_workspace},
      {"paged_candidate_attention", reference::paged_candidate_attention, cpu::paged_candidate_attention,
       cpu::paged_candidate_attention_workspace},
      {"attention_probabilities", reference::attention_probabilities, cpu::attention_probabilities, cpu::attention_probabilities_workspace},
      {"candidate_attention_probabilities", reference::candidate_attention_probabilities, cpu::candidate_attention_probabilities,
       cpu::candidate_attention_probabilities_workspace},
  };
  return {ops, static_cast<int>(sizeof ops / sizeof ops[0])};
}

}  // namespace longer
