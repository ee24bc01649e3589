// Loops over rows that are copied, gathered and summed, one table of functions an instruction set. A range is
// [begin, end); `at` counts elements. Sums are f32 in ascending order and are rounded once, where they are stored.
#pragma once
#include <cstdint>

#include "kernels/cpu/values.h"

namespace longer::cpu {

struct GatherRange {
  const int32_t* index;  // checked: below the sum of rows
  const Values* sources;
  const int64_t* rows;
  Values y;
  int64_t width;
};

// y[r] = sum of the rows order[starts[r]] .. order[starts[r + 1] - 1] of x; without an order the rows themselves.
struct ListedSum {
  Values x, y;
  const int32_t *starts, *order;
  int64_t width;
  bool mean;
};

struct EmbedField {
  const float* table;
  const int32_t *ids, *offsets;  // offsets null: an id a row
  int64_t width;
  bool mean;
  bool adds;  // else the field is the first in its columns
};

struct PairRows {
  Values c, e, y;  // y or dy
  int64_t width;
};

// One use of a table: source i, first <= i < next use's first, is row row[i - first] (null: i - first) of dy.
struct GradUse {
  Values dy;
  int64_t first, stride, column;
  const int32_t* row;
  const float* share;  // by source like row; null: 1
};

struct GradUses {
  GradUse use[21];
  int count;
  int64_t width;
};

struct RowOps {
  void (*copy)(Values x, int64_t x_at, int64_t x_stride, Values y, int64_t y_at, int64_t y_stride, int64_t rows, int64_t width);
  // every row of y = factor * the row of x
  void (*spread)(Values x, int64_t x_at, float factor, Values y, int64_t y_at, int64_t rows, int64_t width);
  void (*gather)(const GatherRange&, int64_t begin, int64_t end);
  void (*listed_sum)(const ListedSum&, int64_t begin, int64_t end, int64_t column_begin, int64_t column_end);
  // y = sum over k of x[k * stride + i], i < width
  void (*strided_sum)(const float* x, int64_t stride, int64_t count, Values y, int64_t at, int64_t width);
  // rows of out are out_stride apart and start at the field's column
  void (*embed)(const EmbedField&, int64_t begin, int64_t end, float* out, int64_t out_stride);
  // out = sum of share * dy of the sources in the low halves of the keys; up to `ahead` keys may be looked at
  void (*grad_sum)(const GradUses&, const uint64_t* keys, int64_t count, int64_t ahead, float* out);

  // One candidate and `events` events from row `event` on: pairs from row `pair` on.
  void (*pair_features)(const PairRows&, int64_t candidate, int64_t event, int64_t events, int64_t pair);
  // Writes dc, adds to de [events, width].
  void (*pair_features_dx)(const PairRows&, int64_t candidate, int64_t event, int64_t events, int64_t pair, float* dc, float* de);
  // `candidates` at most 4, whose weights are `stride` apart
  void (*pair_pool)(Values w, int64_t w_at, int64_t stride, Values e, int64_t event, int64_t events, Values y, int64_t candidate,
                    int64_t candidates, int64_t width);
  // Writes dw from `pair` on, adds to de [events, width].
  void (*pair_pool_dx)(Values w, Values e, Values dy, Values dw, int64_t candidate, int64_t event, int64_t events, int64_t pair,
                       int64_t width, float* de);
};

const RowOps& row_ops_generic();
const RowOps& row_ops_avx2();
const RowOps& row_ops_avx512();
const RowOps& row_ops();  // of the active instruction set

}  // namespace longer::cpu
