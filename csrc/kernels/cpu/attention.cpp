#include "kernels/attention.h"

#include "kernels/attention_kernels.h"
#include "kernels/cpu/flash.h"

namespace longer::cpu {

namespace {

Flash flash_of(const AttentionArgs& a) {
  FlashTensors t;
  t.q = a.q;
  t.k = a.k;
  t.v = a.v;
  t.o = a.o;
  t.lse = a.lse;
  t.d_o = a.d_o;
  t.dq = a.dq;
  t.dk = a.dk;
  t.dv = a.dv;
  t.limits = a.limits.i32();
  t.heads = a.heads;
  t.width = a.width;
  t.head_width = a.head_width;
  t.scale = a.scale;
  return Flash(t);
}

FlashRequest request_of(const AttentionArgs& a, int64_t b) {
  const int32_t* q = a.q_offsets.i32() + b;
  const int32_t* k = a.k_offsets.i32() + b;
  return {q[0], q[1] - q[0], k[0], k[1] - k[0]};
}

}  // namespace

int64_t attention_workspace(const Call& call) {
  return flash_of(attention_args(call, false)).forward_bytes(call.pool->size()) * call.pool->size();
}

int64_t attention_dx_workspace(const Call& call) {
  return flash_of(attention_args(call, true)).backward_bytes(call.pool->size()) * call.pool->size();
}

void attention(const Call& call) {
  const AttentionArgs a = attention_args(call, false);
  forward_all(call, flash_of(a), a.requests, a.heads, [&](int64_t b) { return request_of(a, b); });
}

void attention_dx(const Call& call) {
  const AttentionArgs a = attention_args(call, true);
  const Flash flash = flash_of(a);
  const int64_t bytes = flash.backward_bytes(call.pool->size());
  for_each_head(*call.pool, a.requests, a.heads, 1, [&](int64_t b, int64_t head, int64_t, int64_t, int worker) {
    flash.backward(request_of(a, b), head, static_cast<char*>(call.workspace) + worker * bytes);
  });
}

}  // namespace longer::cpu
