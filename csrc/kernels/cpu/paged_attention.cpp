#include "kernels/paged_attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/cpu/flash.h"

namespace longer::cpu {

namespace {

Flash flash_of(const PagedAttentionArgs& a) {
  FlashTensors t;
  t.q = a.q;
  t.k = a.keys.k;
  t.v = a.keys.v;
  t.k_pages = a.keys.k_pages();
  t.v_pages = a.keys.v_pages();
  t.o = a.o;
  t.lse = a.lse;
  t.limits = a.limits.i32();
  t.heads = a.heads;
  t.width = a.width;
  t.head_width = a.head_width;
  t.scale = a.scale;
  return Flash(t);
}

}  // namespace

int64_t paged_attention_workspace(const Call& call) {
  return flash_of(paged_attention_args(call)).forward_bytes(call.pool->size()) * call.pool->size();
}

void paged_attention(const Call& call) {
  const PagedAttentionArgs a = paged_attention_args(call);
  a.keys.check_values(a.check(call), a.segments);
  forward_all(call, flash_of(a), a.segments, a.heads, [&](int64_t b) {
    const int32_t* q = a.q_offsets.i32() + b;
    return FlashRequest{q[0], q[1] - q[0], a.keys.first(b), a.keys.count(b)};
  });
}

}  // namespace longer::cpu
