#include "kernels/paged_candidate_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/cpu/flash.h"

namespace longer::cpu {

namespace {

Flash flash_of(const PagedCandidateAttentionArgs& a) {
  FlashTensors t;
  t.q = a.q;
  t.k = a.keys.k;
  t.v = a.keys.v;
  t.k_pages = a.keys.k_pages();
  t.v_pages = a.keys.v_pages();
  t.o = a.o;
  t.lse = a.lse;
  t.own_k = a.own_k;
  t.own_v = a.own_v;
  t.heads = a.heads;
  t.width = a.width;
  t.head_width = a.head_width;
  t.rows_each = a.rows_each;
  t.scale = a.scale;
  return Flash(t);
}

}  // namespace

int64_t paged_candidate_attention_workspace(const Call& call) {
  return flash_of(paged_candidate_attention_args(call)).forward_bytes(call.pool->size()) * call.pool->size();
}

void paged_candidate_attention(const Call& call) {
  const PagedCandidateAttentionArgs a = paged_candidate_attention_args(call);
  a.keys.check_values(a.check(call), a.requests);
  forward_all(call, flash_of(a), a.requests, a.heads, [&](int64_t b) {
    const int32_t* c = a.candidate_offsets.i32() + b;
    return FlashRequest{c[0] * a.rows_each, (c[1] - c[0]) * a.rows_each, a.keys.first(b), a.keys.count(b)};
  });
}

}  // namespace longer::cpu
