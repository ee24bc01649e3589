#include <cstring>

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/embed.h"
#include "kernels/embedding_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kRows = 32;  // rows of y that stay in the first level of the cache while the fields come by

int64_t scratch_bytes(const EmbedArgs& a) { return a.y.dtype == DType::bf16 ? align_up(kRows * a.width * 4) : 0; }

void check_ids(const EmbedArgs& a, int field, int64_t begin, int64_t end) {
  const IdRows& f = a.fields[field];
  if (f.offsets.present()) begin = f.offsets.i32()[begin], end = f.offsets.i32()[end];
  const int32_t* ids = f.ids.i32();
  int32_t most = -1;
  for (int64_t i = begin; i < end; ++i) most = std::max(most, ids[i]);
  if (most >= a.tables[field].rows())
    throw std::runtime_error("embed: field " + std::to_string(field) + " has id " + std::to_string(most) + ", its table " +
                             std::to_string(a.tables[field].rows()) + " rows");
}

bool overlap(const EmbedArgs& a, int f, int g) {
  const int64_t from = a.fields[f].column, other = a.fields[g].column;
  return from < other + a.tables[g].cols() && other < from + a.tables[f].cols();
}

}  // namespace

int64_t embed_workspace(const Call& call) { return scratch_bytes(embed_args(call)) * call.pool->size(); }

void embed(const Call& call) {
  const EmbedArgs a = embed_args(call);
  EmbedField fields[kMostFields];
  int64_t covered = 0;
  for (int f = 0; f < a.count; ++f) {
    const IdRows& rows = a.fields[f];
    fields[f] = {floats(a.tables[f]), rows.ids.i32(), rows.offsets.present() ? rows.offsets.i32() : nullptr, a.tables[f].cols(), rows.mean,
                 false};
    for (int g = 0; g < f; ++g) fields[f].adds = fields[f].adds || overlap(a, f, g);
    if (!fields[f].adds) covered += fields[f].width;
  }
  const bool gaps = covered < a.width, direct = a.y.dtype != DType::bf16;
  const Values y = values(a.y);
  const int64_t bytes = scratch_bytes(a), step = (rows_a_task(a.width) + kRows - 1) / kRows * kRows;
  call.pool->parallel_for((a.rows + step - 1) / step, [&](int64_t task, int worker) {
    const int64_t last = std::min(a.rows, (task + 1) * step);
    for (int f = 0; f < a.count; ++f) check_ids(a, f, task * step, last);
    for (int64_t begin = task * step; begin < last; begin += kRows) {
      const int64_t end = std::min(last, begin + kRows);
      float* out = direct ? a.y.f32() + begin * a.width : reinterpret_cast<float*>(static_cast<char*>(call.workspace) + worker * bytes);
      if (gaps) std::memset(out, 0, static_cast<size_t>((end - begin) * a.width) * 4);
      for (int f = 0; f < a.count; ++f) row_ops().embed(fields[f], begin, end, out + a.fields[f].column, a.width);
      if (!direct) row_ops().copy({out, false}, 0, 0, y, begin * a.width, 0, 1, (end - begin) * a.width);
    }
  });
}

// Within a request events go up in time, so that the bucket is seldom far from the one before.
void time_bucket(const Call& call) {
  constexpr int64_t kEvents = 4096;
  const TimeBucketArgs a = time_bucket_args(call);
  split(*call.pool, a.events, kEvents, [&](int64_t begin, int64_t end) {
    each_segment(a.offsets, a.requests, begin, end, [&](int64_t r, int64_t from, int64_t to) {
      int64_t bucket = std::upper_bound(a.boundaries, a.boundaries + a.count, a.request[r] - a.event[from]) - a.boundaries;
      for (int64_t e = from; e < to; ++e) {
        const double gap = std::max(0.0, a.request[r] - a.event[e]);
        while (bucket < a.count && a.boundaries[bucket] <= gap) ++bucket;
        while (bucket > 0 && a.boundaries[bucket - 1] > gap) --bucket;
        a.ids[e] = static_cast<int32_t>(bucket);
      }
    });
  });
}

}  // namespace longer::cpu
