// embed and time_bucket (kernels/embed.h): a pack of columns of y is one sum over the fields that reach into it.
#include "kernels/embed.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Field {
  const float* table;
  const int32_t *ids, *offsets;
  int64_t rows;
  int column, width;
  bool mean, vector;
};

struct Embed {
  Field fields[kMostFields];
  int count;
  Values y;
  int width;
  bool vector;
  int32_t *fault, code;

  // Adds the field's columns among [c, c + kPack).
  __device__ __forceinline__ void add_field(float (&sum)[kPack], const Field& f, int64_t row, int c) const {
    const int64_t from = f.offsets ? f.offsets[row] : row, to = f.offsets ? f.offsets[row + 1] : row + 1;
    float share = 1.f;
    if (f.mean) {
      int there = 0;
      for (int64_t i = from; i < to; ++i) there += f.ids[i] >= 0;
      share = 1.f / static_cast<float>(there);
    }
    const bool whole = f.vector && c >= f.column && c + kPack <= f.column + f.width;
    for (int64_t i = from; i < to; ++i) {
      const int64_t id = f.ids[i];
      if (id >= f.rows) report(fault, code);
      if (id < 0 || id >= f.rows) continue;
      const float* entry = f.table + id * f.width + (c - f.column);
      float v[kPack];
      if (whole) {
        load_pack(v, entry, kPack, true);
      } else {
#pragma unroll
        for (int k = 0; k < kPack; ++k) v[k] = c + k >= f.column && c + k < f.column + f.width ? entry[k] : 0.f;
      }
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum[k] += share * v[k];
    }
  }

  __device__ void operator()(int64_t row, const RowTeam& team) const {
    team.packs(width, [&](int c, int here) {
      float sum[kPack] = {};
      for (int f = 0; f < count; ++f)
        if (fields[f].column < c + here && fields[f].column + fields[f].width > c) add_field(sum, fields[f], row, c);
      store_pack(y, row * width + c, sum, here, vector);
    });
  }
};

struct TimeBucket {
  const double *event, *request, *boundaries;
  const int32_t* offsets;
  int32_t* ids;
  int64_t requests, count;
  __device__ void operator()(int64_t e, const RowTeam&) const {
    const double passed = request[segment_of(offsets, requests, e)] - event[e], age = passed > 0 ? passed : 0;
    int64_t low = 0, high = count;  // boundaries below `low` are at most age
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (boundaries[middle] <= age) low = middle + 1;
      else high = middle;
    }
    ids[e] = static_cast<int32_t>(low);
  }
};

}  // namespace

void embed(const Call& call, const Queue& queue) {
  const EmbedArgs a = embed_args(call);
  Embed op{};
  op.count = a.count;
  op.y = values("embed", a.y);
  op.width = narrow("embed", a.width);
  op.vector = packs_aligned(op.y, a.width);
  op.fault = queue.fault, op.code = queue.code;
  for (int f = 0; f < a.count; ++f) {
    const float* table = vector_of<float>("embed", a.tables[f]);
    const int64_t width = a.tables[f].cols(), column = a.fields[f].column;
    op.fields[f] = {table, vector_of<int32_t>("embed", a.fields[f].ids), vector_of<int32_t>("embed", a.fields[f].offsets), a.tables[f].rows(),
                    static_cast<int>(column), static_cast<int>(width), a.fields[f].mean, packs_aligned(table, width) && column % kPack == 0};
  }
  each_row(queue, "embed", a.rows, a.width, op);
}

void time_bucket(const Call& call, const Queue& queue) {
  const TimeBucketArgs a = time_bucket_args(call);
  if (a.requests == 0) return;
  each_row(queue, "time_bucket", a.events, 1, TimeBucket{a.event, a.request, a.boundaries, a.offsets, a.ids, a.requests, a.count});
}

}  // namespace longer::cuda
