// attention (kernels/attention.h), candidate_attention (kernels/candidate_attention.h) and their gradients by flash.h.
#include "kernels/attention.h"

#include "kernels/candidate_attention.h"
#include "kernels/cuda/flash.h"

namespace longer::cuda {

namespace {

template <class Args>
FlashTensors common(const Args& a) {
  FlashTensors t;
  t.q = a.q, t.k = a.k, t.v = a.v, t.o = a.o, t.lse = a.lse;
  t.d_o = a.d_o, t.dq = a.dq, t.dk = a.dk, t.dv = a.dv;
  t.k_offsets = a.k_offsets;
  t.requests = a.requests, t.heads = a.heads, t.width = a.width, t.head_width = a.head_width;
  t.scale = a.scale;
  return t;
}

FlashTensors flash_of(const AttentionArgs& a) {
  FlashTensors t = common(a);
  t.q_offsets = a.q_offsets;
  t.limits = a.limits;
  return t;
}

FlashTensors flash_of(const CandidateAttentionArgs& a) {
  FlashTensors t = common(a);
  t.own_k = a.own_k, t.own_v = a.own_v, t.down_k = a.down_k, t.down_v = a.down_v;
  t.q_offsets = a.candidate_offsets;
  t.unit = a.rows_each;
  return t;
}

}  // namespace

int64_t attention_workspace(const Call& call) { return flash_forward_workspace(flash_of(attention_args(call, false))); }
int64_t attention_dx_workspace(const Call& call) { return flash_backward_workspace(flash_of(attention_args(call, true))); }
void attention(const Call& call, const Queue& queue) { flash_forward("attention", flash_of(attention_args(call, false)), call.workspace, queue); }
void attention_dx(const Call& call, const Queue& queue) { flash_backward("attention_dx", flash_of(attention_args(call, true)), call.workspace, queue); }

int64_t candidate_attention_workspace(const Call& call) { return flash_forward_workspace(flash_of(candidate_attention_args(call, false))); }
int64_t candidate_attention_dx_workspace(const Call& call) { return flash_backward_workspace(flash_of(candidate_attention_args(call, true))); }
void candidate_attention(const Call& call, const Queue& queue) {
  flash_forward("candidate_attention", flash_of(candidate_attention_args(call, false)), call.workspace, queue);
}
void candidate_attention_dx(const Call& call, const Queue& queue) {
  flash_backward("candidate_attention_dx", flash_of(candidate_attention_args(call, true)), call.workspace, queue);
}

}  // namespace longer::cuda
