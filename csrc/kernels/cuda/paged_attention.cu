// paged_attention (kernels/paged_attention.h) and paged_candidate_attention (kernels/paged_candidate_attention.h) by flash.h.
#include "kernels/paged_attention.h"

#include "kernels/cuda/flash.h"
#include "kernels/paged_candidate_attention.h"

namespace longer::cuda {

namespace {

template <class Args>
FlashTensors common(const Args& a) {
  FlashTensors t;
  t.q = a.q, t.o = a.o, t.lse = a.lse;
  t.k = a.keys.k, t.v = a.keys.v;
  t.k_offsets = a.keys.spans;
  t.k_tables = a.keys.k_tables, t.v_tables = a.keys.v_tables, t.page_rows = a.keys.page_rows;
  t.heads = a.heads, t.width = a.width, t.head_width = a.head_width;
  t.scale = a.scale;
  return t;
}

FlashTensors flash_of(const PagedAttentionArgs& a) {
  FlashTensors t = common(a);
  t.q_offsets = a.q_offsets;
  t.limits = a.limits;
  t.requests = a.segments;
  return t;
}

FlashTensors flash_of(const PagedCandidateAttentionArgs& a) {
  FlashTensors t = common(a);
  t.own_k = a.own_k, t.own_v = a.own_v;
  t.q_offsets = a.candidate_offsets;
  t.unit = a.rows_each;
  t.requests = a.requests;
  return t;
}

}  // namespace

int64_t paged_attention_workspace(const Call& call) { return flash_forward_workspace(flash_of(paged_attention_args(call))); }
int64_t paged_candidate_attention_workspace(const Call& call) { return flash_forward_workspace(flash_of(paged_candidate_attention_args(call))); }
void paged_attention(const Call& call, const Queue& queue) { flash_forward("paged_attention", flash_of(paged_attention_args(call)), call.workspace, queue); }
void paged_candidate_attention(const Call& call, const Queue& queue) {
  flash_forward("paged_candidate_attention", flash_of(paged_candidate_attention_args(call)), call.workspace, queue);
}

}  // namespace longer::cuda
