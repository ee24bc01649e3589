#include <algorithm>

#include "kernels/concat.h"
#include "kernels/gather_rows.h"
#include "kernels/merge.h"
#include "kernels/pairs.h"
#include "kernels/rows_kernels.h"
#include "kernels/segment_pool.h"
#include "kernels/write_rows.h"

namespace longer::reference {

namespace {

double* row(const Tensor& t, int64_t r) { return t.f64() + r * t.cols(); }
void fill_zero(const Tensor& t) { std::fill(t.f64(), t.f64() + t.size(), 0.0); }

// The source row that an index names; null for a negative one.
double* indexed(const GatherRowsArgs& a, int64_t index) {
  if (index < 0) return nullptr;
  for (int s = 0; s < a.count; ++s) {
    if (index < a.sources[s].rows()) return row(a.sources[s], index);
    index -= a.sources[s].rows();
  }
  throw std::runtime_error("gather_rows: an index is past the last source");
}

// body(pair, candidate, event), in order
template <class Body>
void each_pair(const PairOffsets& at, Body&& body) {
  for (int64_t r = 0; r < at.requests; ++r) {
    int64_t p = at.pairs[r];
    for (int64_t c = at.candidates[r]; c < at.candidates[r + 1]; ++c)
      for (int64_t e = at.events[r]; e < at.events[r + 1]; ++e) body(p++, c, e);
  }
}

}  // namespace

void gather_rows(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, false);
  for (int64_t r = 0; r < a.rows; ++r) {
    const double* from = indexed(a, a.index.i32()[r]);
    for (int64_t i = 0; i < a.width; ++i) row(a.y, r)[i] = from ? from[i] : 0;
  }
}

void write_rows(const Call& call) {
  const WriteRowsArgs a = write_rows_args(call);
  check_places(a);
  for (int64_t i = 0; i < a.rows; ++i) std::copy(row(a.x, i), row(a.x, i) + a.width, row(a.y, a.index.i32()[i]));
}

void gather_rows_dx(const Call& call) {
  const GatherRowsArgs a = gather_rows_args(call, true);
  for (int s = 0; s < a.count; ++s) fill_zero(a.sources[s]);
  for (int64_t r = 0; r < a.rows; ++r)
    if (double* to = indexed(a, a.index.i32()[r]))
      for (int64_t i = 0; i < a.width; ++i) to[i] += row(a.y, r)[i];
}

void merge(const Call& call) {
  const MergeArgs a = merge_args(call, false);
  fill_zero(a.merged);
  for (int64_t r = 0; r < a.requests; ++r) {
    double* to = row(a.merged, a.group_offsets.i32()[r]) + a.missing(r) * a.width;
    std::copy(row(a.events, a.first_event(r)), row(a.events, a.first_event(r + 1)), to);
  }
}

void merge_dx(const Call& call) {
  const MergeArgs a = merge_args(call, true);
  for (int64_t r = 0; r < a.requests; ++r) {
    const double* from = row(a.merged, a.group_offsets.i32()[r]) + a.missing(r) * a.width;
    std::copy(from, from + (a.first_event(r + 1) - a.first_event(r)) * a.width, row(a.events, a.first_event(r)));
  }
}

void segment_pool(const Call& call) {
  const SegmentPoolArgs a = segment_pool_args(call, false);
  const int32_t* offsets = a.offsets.i32();
  fill_zero(a.pooled);
  for (int64_t r = 0; r < a.segments; ++r)
    for (int64_t i = offsets[r]; i < offsets[r + 1]; ++i)
      for (int64_t j = 0; j < a.width; ++j) row(a.pooled, r)[j] += row(a.rows, i)[j] / (a.mean ? offsets[r + 1] - offsets[r] : 1);
}

void segment_pool_dx(const Call& call) {
  const SegmentPoolArgs a = segment_pool_args(call, true);
  const int32_t* offsets = a.offsets.i32();
  for (int64_t r = 0; r < a.segments; ++r)
    for (int64_t i = offsets[r]; i < offsets[r + 1]; ++i)
      for (int64_t j = 0; j < a.width; ++j) row(a.rows, i)[j] = row(a.pooled, r)[j] / (a.mean ? offsets[r + 1] - offsets[r] : 1);
}

void concat(const Call& call) {
  const ConcatArgs a = concat_args(call, false);
  for (int64_t r = 0; r < a.rows; ++r) {
    double* to = row(a.whole, r);
    for (int s = 0; s < a.count; ++s) to = std::copy(row(a.parts[s], r), row(a.parts[s], r + 1), to);
  }
}

void concat_dx(const Call& call) {
  const ConcatArgs a = concat_args(call, true);
  for (int64_t r = 0; r < a.rows; ++r) {
    const double* from = row(a.whole, r);
    for (int s = 0; s < a.count; from += a.parts[s++].cols()) std::copy(from, from + a.parts[s].cols(), row(a.parts[s], r));
  }
}

void pair_features(const Call& call) {
  const PairFeaturesArgs a = pair_features_args(call, false);
  const int64_t d = a.width;
  each_pair(a.at, [&](int64_t p, int64_t c, int64_t e) {
    for (int64_t i = 0; i < d; ++i) {
      const double x = row(a.c, c)[i], y = row(a.e, e)[i];
      row(a.y, p)[i] = x;
      row(a.y, p)[d + i] = y;
      row(a.y, p)[2 * d + i] = x - y;
      row(a.y, p)[3 * d + i] = x * y;
    }
  });
}

void pair_features_dx(const Call& call) {
  const PairFeaturesArgs a = pair_features_args(call, true);
  const int64_t d = a.width;
  fill_zero(a.dc);
  fill_zero(a.de);
  each_pair(a.at, [&](int64_t p, int64_t c, int64_t e) {
    const double* g = row(a.y, p);
    for (int64_t i = 0; i < d; ++i) {
      row(a.dc, c)[i] += g[i] + g[2 * d + i] + g[3 * d + i] * row(a.e, e)[i];
      row(a.de, e)[i] += g[d + i] - g[2 * d + i] + g[3 * d + i] * row(a.c, c)[i];
    }
  });
}

void pair_pool(const Call& call) {
  const PairPoolArgs a = pair_pool_args(call, false);
  fill_zero(a.y);
  each_pair(a.at, [&](int64_t p, int64_t c, int64_t e) {
    for (int64_t i = 0; i < a.width; ++i) row(a.y, c)[i] += a.w.f64()[p] * row(a.e, e)[i];
  });
}

void pair_pool_dx(const Call& call) {
  const PairPoolArgs a = pair_pool_args(call, true);
  fill_zero(a.de);
  each_pair(a.at, [&](int64_t p, int64_t c, int64_t e) {
    double sum = 0;
    for (int64_t i = 0; i < a.width; ++i) {
      sum += row(a.y, c)[i] * row(a.e, e)[i];
      row(a.de, e)[i] += a.w.f64()[p] * row(a.y, c)[i];
    }
    a.dw.f64()[p] = sum;
  });
}

}  // namespace longer::reference
