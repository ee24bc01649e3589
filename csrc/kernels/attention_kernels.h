// The kernels behind attention_ops().
#pragma once
#include "kernels/op.h"

namespace longer {

namespace reference {
void attention(const Call& call);
void attention_dx(const Call& call);
void candidate_attention(const Call& call);
void candidate_attention_dx(const Call& call);
void group_attention(const Call& call);
void group_attention_dx(const Call& call);
void inner_transformer(const Call& call);
void inner_transformer_dx(const Call& call);
void paged_attention(const Call& call);
void paged_candidate_attention(const Call& call);
void attention_probabilities(const Call& call);
void candidate_attention_probabilities(const Call& call);
}  // namespace reference

namespace cpu {
void attention(const Call& call);
void attention_dx(const Call& call);
void candidate_attention(const Call& call);
void candidate_attention_dx(const Call& call);
void group_attention(const Call& call);
void group_attention_dx(const Call& call);
void paged_attention(const Call& call);
void paged_candidate_attention(const Call& call);
void attention_probabilities(const Call& call);
void candidate_attention_probabilities(const Call& call);
int64_t attention_workspace(const Call& call);
int64_t attention_dx_workspace(const Call& call);
int64_t candidate_attention_workspace(const Call& call);
int64_t candidate_attention_dx_workspace(const Call& call);
int64_t group_attention_workspace(const Call& call);
int64_t group_attention_dx_workspace(const Call& call);
int64_t paged_attention_workspace(const Call& call);
int64_t paged_candidate_attention_workspace(const Call& call);
int64_t attention_probabilities_workspace(const Call& call);
int64_t candidate_attention_probabilities_workspace(const Call& call);
}  // namespace cpu

}  // namespace longer
