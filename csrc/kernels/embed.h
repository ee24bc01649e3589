// embed: fields in order, each adds the pooled rows of its table to its columns of a zeroed y. Pooling 0: one id a row;
// 1 and 2: sum and mean of the ids [offsets[r], offsets[r+1]). A negative id adds nothing and does not count in a mean.
//
// sparse_grad: the unique ids of all uses of one table, ascending, with their summed gradients: uses in order, rows in
// order, with a mean's share. Only the first count entries of rows and grad are written.
//
// time_bucket: ids[e] = number of boundaries that are at most max(0, request time - event time).
#pragma once
#include "kernels/dense_check.h"

namespace longer {

// An id list: with offsets the ids of row r are [offsets[r], offsets[r+1]), else id r alone.
struct IdRows {
  Tensor ids, offsets;
  int64_t column;
  bool mean;
};

inline IdRows id_rows(const DenseCheck& check, const Call& call, int index, const Tensor& ids, const Tensor& offsets, int64_t rows,
                      int64_t width, int64_t whole) {
  IdRows f{ids, offsets, call.integer(1 + 2 * index), call.integer(2 + 2 * index) == 2};
  const int64_t pooling = call.integer(2 + 2 * index);
  check.require(pooling >= 0 && pooling <= 2, "unknown pooling");
  check.require(f.column >= 0 && f.column + width <= whole, "a field lies outside the columns");
  check.indices(f.ids, f.ids.size(), "ids must be i32");
  if (offsets.present()) check.indices(offsets, rows + 1, "offsets must have a value a row and one more");
  else check.require(f.ids.size() == rows, "there must be an id a row");
  check.require((pooling == 0) == !offsets.present(), "pooled ids need offsets, others have none");
  return f;
}

constexpr int kMostFields = 21;  // a node takes 64 operands

struct EmbedArgs {
  Tensor tables[kMostFields];
  IdRows fields[kMostFields];
  int count;
  Tensor y;
  int64_t rows, width;
};

inline EmbedArgs embed_args(const Call& call) {
  const DenseCheck check("embed", call);
  check.require(call.attrs >= 1 && call.integer(0) >= 0 && call.integer(0) <= kMostFields, "wrong number of fields");
  EmbedArgs a;
  a.count = static_cast<int>(call.integer(0));
  check.counts(3 * a.count, 3 * a.count, 1, 1, 1 + 2 * a.count);
  a.y = call.output(0);
  a.rows = a.y.rows();
  a.width = a.y.cols();
  check.matrix(a.y, a.rows, a.width, "y has a wrong type");
  for (int f = 0; f < a.count; ++f) {
    a.tables[f] = call.input(3 * f);
    check.wide(a.tables[f], a.tables[f].size(), "a table must be f32");
    a.fields[f] = id_rows(check, call, f, call.input(3 * f + 1), call.input(3 * f + 2), a.rows, a.tables[f].cols(), a.width);
  }
  return a;
}

struct SparseGradArgs {
  IdRows uses[kMostFields];
  Tensor dy[kMostFields];
  int count;
  Tensor rows, grad, unique;
  int64_t ids, width;  // ids of all uses
};

inline SparseGradArgs sparse_grad_args(const Call& call) {
  const DenseCheck check("sparse_grad", call);
  check.require(call.attrs >= 1 && call.integer(0) >= 1 && call.integer(0) <= kMostFields, "wrong number of uses");
  SparseGradArgs a;
  a.count = static_cast<int>(call.integer(0));
  check.counts(3 * a.count, 3 * a.count, 3, 3, 1 + 2 * a.count);
  a.rows = call.output(0);
  a.grad = call.output(1);
  a.unique = call.output(2);
  a.width = a.grad.cols();
  a.ids = 0;
  for (int u = 0; u < a.count; ++u) {
    a.dy[u] = call.input(3 * u + 2);
    check.matrix(a.dy[u], a.dy[u].rows(), a.dy[u].cols(), "dy has a wrong type");
    a.uses[u] = id_rows(check, call, u, call.input(3 * u), call.input(3 * u + 1), a.dy[u].rows(), a.width, a.dy[u].cols());
    a.ids += a.uses[u].ids.size();
  }
  check.require(a.ids < (int64_t{1} << 31), "too many ids");
  check.indices(a.rows, a.ids, "rows must be i32 with room for every id");
  check.wide(a.grad, a.ids * a.width, "grad must be f32 with room for every id");
  check.indices(a.unique, 1, "count must be i32 [1]");
  return a;
}

struct TimeBucketArgs {
  const double *event, *request, *boundaries;
  const int32_t* offsets;
  int32_t* ids;
  int64_t events, requests, count;
};

inline TimeBucketArgs time_bucket_args(const Call& call) {
  const DenseCheck check("time_bucket", call);
  check.counts(4, 4, 1, 1, 0);
  const int64_t requests = check.offsets(call.input(2), "event_offsets must be i32");
  for (const int i : {0, 1, 3}) check.require(call.input(i).dtype == DType::f64, "times and boundaries must be f64");
  check.require(call.input(1).size() == requests, "there must be a request time a request");
  check.indices(call.output(0), call.input(0).size(), "ids must be i32 with a value an event");
  return {call.input(0).f64(), call.input(1).f64(), call.input(3).f64(), call.input(2).i32(), call.output(0).i32(),
          call.input(0).size(), requests, call.input(3).size()};
}

}  // namespace longer
