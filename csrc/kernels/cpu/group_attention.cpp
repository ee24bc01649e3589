#include "kernels/group_attention.h"

#include <algorithm>

#include "kernels/attention_kernels.h"
#include "kernels/cpu/attention_tiles.h"
#include "runtime/cpu_features.h"

namespace longer::cpu {

namespace {

constexpr int64_t kEventsATask = 512;

int64_t scratch_bytes(const GroupAttentionArgs& a) { return 4 * group_scratch(a.group, a.head_width); }

// Calls body(first event, events) for every group whose first event is in [begin, end).
template <class Body>
void each_group(const GroupAttentionArgs& a, int64_t begin, int64_t end, Body body) {
  const int32_t* offsets = a.event_offsets.i32();
  int64_t b = std::upper_bound(offsets, offsets + a.requests + 1, begin) - offsets - 1;
  for (; b < a.requests && offsets[b] < end; ++b) {
    const int64_t stop = offsets[b + 1];
    int64_t first = offsets[b], size = oldest_group(stop - first, a.group);
    if (first < begin && size > 0) {
      first += size;
      size = a.group;
      if (first < begin) first += (begin - first + size - 1) / size * size;
    }
    for (; first < stop && first < end; first += size, size = a.group) body(first, size);
  }
}

// Half a wide vector would stay empty for groups this small.
const AttentionTiles& tiles_for(int64_t group) {
#if defined(__x86_64__)
  if (group <= 8 && active_isa() >= Isa::avx2) return attention_tiles_avx2();
#endif
  return attention_tiles(false);
}

template <void (*AttentionTiles::*Kernel)(const GroupTile&)>
void run(const GroupAttentionArgs& a, const Call& call) {
  const auto kernel = tiles_for(a.group).*Kernel;
  const int64_t bytes = scratch_bytes(a), size = dtype_size(a.q.dtype), events = a.q.dim[0];
  const auto at = [size](const Tensor& t, int64_t element) {
    return t.present() ? static_cast<void*>(static_cast<char*>(t.data) + element * size) : nullptr;
  };
  call.pool->parallel_for((events + kEventsATask - 1) / kEventsATask, [&](int64_t task, int worker) {
    GroupTile x = {};
    x.width = a.head_width;
    x.stride = a.width;
    x.is_bf16 = a.q.dtype == DType::bf16;
    x.scale = static_cast<float>(a.scale);
    x.scratch = reinterpret_cast<float*>(static_cast<char*>(call.workspace) + worker * bytes);
    each_group(a, task * kEventsATask, (task + 1) * kEventsATask, [&](int64_t first, int64_t members) {
      for (int64_t head = 0; head < a.heads; ++head) {
        const int64_t e = first * a.width + head * a.head_width;
        x.events = members;
        x.q = at(a.q, e);
        x.k = at(a.k, e);
        x.v = at(a.v, e);
        x.d_o = at(a.d_o, e);
        x.o = at(a.o, e);
        x.dq = at(a.dq, e);
        x.dk = at(a.dk, e);
        x.dv = at(a.dv, e);
        kernel(x);
      }
    });
  });
}

}  // namespace

int64_t group_attention_workspace(const Call& call) {
  return scratch_bytes(group_attention_args(call, false)) * call.pool->size();
}

int64_t group_attention_dx_workspace(const Call& call) {
  return scratch_bytes(group_attention_args(call, true)) * call.pool->size();
}

void group_attention(const Call& call) { run<&AttentionTiles::group_forward>(group_attention_args(call, false), call); }

void group_attention_dx(const Call& call) { run<&AttentionTiles::group_backward>(group_attention_args(call, true), call); }

}  // namespace longer::cpu
