#include <cstring>

#include "kernels/cpu/id_sort.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/embed.h"
#include "kernels/embedding_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kPiece = 512;    // sources of one id that are summed together; an id with more has several pieces
constexpr int64_t kWindow = 1024;  // sorted sources of a task

// An id with many sources is cut into equal pieces of more than kPiece / 2, so that no two begin in one slot.
int64_t pieces(int64_t sources) { return (sources + kPiece - 1) / kPiece; }
int64_t slot(int64_t position) { return position / (kPiece / 2); }

struct Memory {
  int32_t* ids;    // of all sources, -1 for one that counts nowhere
  int32_t* rows;   // of sources with offsets
  float* shares;
  float* partials;
  void* sort;
  int64_t bytes;
};

Memory carve(const SparseGradArgs& a, void* memory) {
  bool offsets = false;
  for (int u = 0; u < a.count; ++u) offsets = offsets || a.uses[u].offsets.present();
  char* const start = static_cast<char*>(memory);
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t here = at;
    at += align_up(bytes);
    return start ? start + here : nullptr;
  };
  Memory m;
  m.ids = reinterpret_cast<int32_t*>(take(a.ids * 4));
  m.rows = reinterpret_cast<int32_t*>(take(offsets ? a.ids * 4 : 0));
  m.shares = reinterpret_cast<float*>(take(offsets ? a.ids * 4 : 0));
  m.partials = reinterpret_cast<float*>(take((slot(a.ids) + 1) * a.width * 4));
  m.sort = take(id_sort_bytes(a.ids));
  m.bytes = at;
  return m;
}

// Lays the ids of a use end to end behind those of the uses before it; the sources of pooled ones learn their row.
GradUse list_use(const SparseGradArgs& a, int u, int64_t first, const Memory& m, ThreadPool& pool) {
  const IdRows& use = a.uses[u];
  const int32_t* ids = use.ids.i32();
  GradUse g{values(a.dy[u]), first, a.dy[u].cols(), use.column, nullptr, nullptr};
  if (!use.offsets.present()) {
    std::memcpy(m.ids + first, ids, static_cast<size_t>(use.ids.size()) * 4);
    return g;
  }
  const int32_t* offsets = use.offsets.i32();
  int32_t* rows = m.rows + first;
  float* shares = m.shares + first;
  std::fill(m.ids + first, m.ids + first + use.ids.size(), -1);
  split(pool, a.dy[u].rows(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t there = 0;
      for (int64_t i = offsets[r]; i < offsets[r + 1]; ++i) there += ids[i] >= 0;
      for (int64_t i = offsets[r]; i < offsets[r + 1]; ++i) {
        m.ids[first + i] = ids[i];
        rows[i] = static_cast<int32_t>(r);
        shares[i] = use.mean ? 1.0f / static_cast<float>(there) : 1.0f;
      }
    }
  });
  g.row = rows;
  g.share = shares;
  return g;
}

}  // namespace

int64_t sparse_grad_workspace(const Call& call) { return carve(sparse_grad_args(call), nullptr).bytes; }

void sparse_grad(const Call& call) {
  const SparseGradArgs a = sparse_grad_args(call);
  const Memory m = carve(a, call.workspace);
  GradUses uses;
  uses.count = a.count;
  uses.width = a.width;
  int64_t first = 0;
  for (int u = 0; u < a.count; first += a.uses[u++].ids.size()) uses.use[u] = list_use(a, u, first, m, *call.pool);
  const SortedIds sorted = sort_ids(m.ids, a.ids, m.sort, *call.pool);
  a.unique.i32()[0] = static_cast<int32_t>(sorted.unique);

  float* grad = floats(a.grad);
  int32_t* rows = a.rows.i32();
  split(*call.pool, sorted.count, kWindow, [&](int64_t begin, int64_t end) {
    int64_t u = std::upper_bound(sorted.starts, sorted.starts + sorted.unique, begin) - sorted.starts - 1;
    for (; u < sorted.unique && sorted.starts[u] < end; ++u) {
      const int64_t from = sorted.starts[u], sources = sorted.starts[u + 1] - from, parts = pieces(sources);
      if (from >= begin) rows[u] = static_cast<int32_t>(sorted.keys[from] >> 32);
      for (int64_t p = 0; p < parts; ++p) {
        const int64_t at = from + p * sources / parts, stop = from + (p + 1) * sources / parts;
        if (at < begin || at >= end) continue;
        float* out = parts == 1 ? grad + u * a.width : m.partials + slot(at) * a.width;
        row_ops().grad_sum(uses, sorted.keys + at, stop - at, sorted.count - at, out);
      }
    }
  });
  split(*call.pool, sorted.unique, kWindow, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t from = sorted.starts[u], sources = sorted.starts[u + 1] - from, parts = pieces(sources);
      if (parts == 1) continue;
      float* out = grad + u * a.width;
      std::memcpy(out, m.partials + slot(from) * a.width, static_cast<size_t>(a.width) * 4);
      for (int64_t p = 1; p < parts; ++p) {
        const float* part = m.partials + slot(from + p * sources / parts) * a.width;
        for (int64_t i = 0; i < a.width; ++i) out[i] += part[i];
      }
    }
  });
}

}  // namespace longer::cpu
