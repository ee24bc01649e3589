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
  const Flash flash = flash_of(a);
  const int64_t bytes = flash.forward_bytes(call.pool->size());
  for_each_head(*call.pool, a.segments, a.heads, a.q.dim[0] / kRowChunk + 1,
                [&](int64_t b, int64_t head, int64_t part, int64_t parts, int worker) {
                  const int32_t* q = a.q_offsets.i32() + b;
                  const FlashRequest request = {q[0], q[1] - q[0], a.keys.first(b), a.keys.count(b)};
                  for (int64_t chunk = part; chunk < flash.chunks(request); chunk += parts)
                    flash.forward(request, head, chunk, static_cast<char*>(call.workspace) + worker * bytes);
                });
}

}  // namespace longer::cpu
