// group_attention and group_attention_dx (kernels/group_attention.h) by flash.h: the keys of a row are the rows of its group.
#include "kernels/group_attention.h"

#include "kernels/cuda/flash.cuh"

namespace longer::cuda {

namespace {

FlashTensors flash_of(const GroupAttentionArgs& a) {
  FlashTensors t;
  t.q = a.q, t.k = a.k, t.v = a.v, t.o = a.o;
  t.d_o = a.d_o, t.dq = a.dq, t.dk = a.dk, t.dv = a.dv;
  t.q_offsets = a.event_offsets;
  t.sight = Sight::group;
  t.group = std::min(a.group, std::max<int64_t>(a.q.dim[0], 1));  // longer ones than there are events are the same
  t.requests = a.requests, t.heads = a.heads, t.width = a.width, t.head_width = a.head_width;
  t.scale = a.scale;
  return t;
}

// The graph keeps nothing of the forward pass: its gradient begins with what of it the backward pass needs.
struct Recomputed {
  FlashTensors tensors;
  void* workspace;  // of either pass
  int64_t bytes;
};

Recomputed recomputed(const GroupAttentionArgs& a, void* memory) {
  Parts parts(memory);
  Recomputed r{flash_of(a), nullptr, 0};
  for (Tensor* t : {&r.tensors.lse, &r.tensors.delta}) {
    t->rank = 2;
    t->dim[0] = a.q.dim[0], t->dim[1] = a.heads;
    t->data = parts.take<float>(t->size());
  }
  r.workspace = parts.take<char>(std::max(flash_forward_workspace(r.tensors), flash_backward_workspace(r.tensors)));
  r.bytes = parts.bytes();
  return r;
}

}  // namespace

int64_t group_attention_workspace(const Call& call) { return flash_forward_workspace(flash_of(group_attention_args(call, false))); }
int64_t group_attention_dx_workspace(const Call& call) { return recomputed(group_attention_args(call, true), nullptr).bytes; }

void group_attention(const Call& call, const Queue& queue) {
  flash_forward("group_attention", flash_of(group_attention_args(call, false)), call.workspace, queue);
}

void group_attention_dx(const Call& call, const Queue& queue) {
  const Recomputed r = recomputed(group_attention_args(call, true), call.workspace);
  flash_forward("group_attention_dx", r.tensors, r.workspace, queue);
  flash_backward("group_attention_dx", r.tensors, r.workspace, queue);
}

}  // namespace longer::cuda
