#include "kernels/group_attention.h"

#include <algorithm>

#include "kernels/attention_kernels.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "runtime/cpu_features.h"

namespace longer::cpu {

namespace {

constexpr int64_t kEventsATask = 512;
constexpr int64_t kWidened = 64;  // events whose bf16 rows are f32 at a time: they stay in the first-level cache

int64_t widened_rows(const GroupAttentionArgs& a) { return kWidened + a.group - 1; }

// Floats of one group, then f32 rows of q, k, v and of the others.
int64_t scratch_bytes(const GroupAttentionArgs& a) {
  const int64_t matrices = a.d_o.present() ? 7 : 4;
  return 4 * (group_scratch(a.group, a.head_width) + (a.q.dtype == DType::bf16 ? matrices * widened_rows(a) * a.width : 0));
}

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

// f32 rows of the operands, where event `first` is the first; null where there are none.
struct GroupOperands {
  int64_t first;
  float *q, *k, *v, *d_o, *o, *dq, *dk, *dv;
};

template <void (*AttentionTiles::*Kernel)(const GroupTile&)>
class GroupRun {
 public:
  GroupRun(const GroupAttentionArgs& a, const Call& call)
      : a_(a), pool_(*call.pool), kernel_(tiles_for(a.group).*Kernel), workspace_(static_cast<char*>(call.workspace)) {}

  void run() const {
    pool_.parallel_for((a_.q.dim[0] + kEventsATask - 1) / kEventsATask, [&](int64_t task, int worker) {
      const int64_t begin = task * kEventsATask, end = std::min(a_.q.dim[0], begin + kEventsATask);
      float* scratch = reinterpret_cast<float*>(workspace_ + worker * scratch_bytes(a_));
      if (a_.q.dtype == DType::bf16)
        for (int64_t at = begin; at < end; at += kWidened) widened(at, std::min(end, at + kWidened), scratch);
      else
        groups(begin, end, {0, floats(a_.q), floats(a_.k), floats(a_.v), floats(a_.d_o), floats(a_.o), floats(a_.dq), floats(a_.dk), floats(a_.dv)},
               scratch);
    });
  }

 private:
  // A group has too few rows for widening them to pay: many are done at once.
  void widened(int64_t begin, int64_t end, float* scratch) const {
    int64_t first = -1, stop = 0;
    each_group(a_, begin, end, [&](int64_t at, int64_t events) {
      if (first < 0) first = at;
      stop = at + events;
    });
    if (first < 0) return;
    float* next = scratch + group_scratch(a_.group, a_.head_width);
    const auto rows = [&](const Tensor& t, bool given) -> float* {
      if (!t.present()) return nullptr;
      float* to = next;
      next += widened_rows(a_) * a_.width;
      if (given) cast({static_cast<uint16_t*>(t.data) + first * a_.width, true}, {to, false}, stop - first);
      return to;
    };
    const GroupOperands x{first, rows(a_.q, true), rows(a_.k, true), rows(a_.v, true), rows(a_.d_o, true),
                          rows(a_.o, false), rows(a_.dq, false), rows(a_.dk, false), rows(a_.dv, false)};
    groups(begin, end, x, scratch);
    const auto narrow = [&](float* from, const Tensor& t) {
      if (from) cast({from, false}, {static_cast<uint16_t*>(t.data) + first * a_.width, true}, stop - first);
    };
    narrow(x.o, a_.o);
    narrow(x.dq, a_.dq);
    narrow(x.dk, a_.dk);
    narrow(x.dv, a_.dv);
  }

  void cast(Values from, Values to, int64_t rows) const { vector_ops().cast(from, to, 0, rows * a_.width); }

  void groups(int64_t begin, int64_t end, const GroupOperands& x, float* scratch) const {
    const auto at = [](float* rows, int64_t element) { return rows ? rows + element : nullptr; };
    GroupTile g = {};
    g.width = a_.head_width;
    g.stride = a_.width;
    g.scale = static_cast<float>(a_.scale);
    g.scratch = scratch;
    each_group(a_, begin, end, [&](int64_t first, int64_t events) {
      for (int64_t head = 0; head < a_.heads; ++head) {
        const int64_t e = (first - x.first) * a_.width + head * a_.head_width;
        g.events = events;
        g.q = at(x.q, e);
        g.k = at(x.k, e);
        g.v = at(x.v, e);
        g.d_o = at(x.d_o, e);
        g.o = at(x.o, e);
        g.dq = at(x.dq, e);
        g.dk = at(x.dk, e);
        g.dv = at(x.dv, e);
        kernel_(g);
      }
    });
  }

  const GroupAttentionArgs a_;
  ThreadPool& pool_;
  void (*const kernel_)(const GroupTile&);
  char* const workspace_;
};

}  // namespace

int64_t group_attention_workspace(const Call& call) {
  return scratch_bytes(group_attention_args(call, false)) * call.pool->size();
}

int64_t group_attention_dx_workspace(const Call& call) {
  return scratch_bytes(group_attention_args(call, true)) * call.pool->size();
}

void group_attention(const Call& call) { GroupRun<&AttentionTiles::group_forward>(group_attention_args(call, false), call).run(); }

void group_attention_dx(const Call& call) { GroupRun<&AttentionTiles::group_backward>(group_attention_args(call, true), call).run(); }

}  // namespace longer::cpu
