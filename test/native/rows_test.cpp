// Rows and embedding operations: reference and kernels against loops written here, on ragged shapes, in every mix of
// types and with every number of threads.
#include <algorithm>
#include <map>

#include "op_case.h"

using namespace longer;
using namespace longer::test;

namespace {

using Numbers = std::vector<double>;

DType some_type() { return whole(0, 1) ? DType::bf16 : DType::f32; }

std::vector<int64_t> ragged(int64_t segments, int64_t longest) {
  std::vector<int64_t> offsets = {0};
  for (int64_t s = 0; s < segments; ++s) {
    const int64_t kind = whole(0, 4);
    offsets.push_back(offsets.back() + (kind == 0 ? 0 : kind == 1 ? 1 : whole(1, longest)));
  }
  return offsets;
}

void gather_rows() {
  const int64_t width = whole(1, 3) * whole(1, 90), sources = whole(1, 4);
  Case c{"gather_rows", {}, {}, {}};
  std::vector<std::pair<int, int64_t>> places;
  std::vector<int64_t> index;
  for (int64_t s = 0; s < sources; ++s) {
    c.in.push_back(filled(some_type(), {s == 1 ? 0 : whole(1, 60), width}));
    for (int64_t r = 0; r < c.in.back().rows(); ++r) places.push_back({static_cast<int>(s), r});
  }
  const bool crowded = whole(0, 2) == 0;  // nearly all of one row
  for (int64_t i = whole(0, 900); i > 0; --i)
    index.push_back(crowded && whole(0, 20) ? 0 : whole(-1, static_cast<int64_t>(places.size()) - 1));
  c.in.insert(c.in.begin(), integers(index));
  const int64_t rows = static_cast<int64_t>(index.size());
  c.out = {blank(some_type(), {rows, width})};
  Numbers y(static_cast<size_t>(rows * width), 0.0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width && index[r] >= 0; ++i) y[r * width + i] = c.in[1 + places[index[r]].first](places[index[r]].second, i);
  check(c, {y}, 1e-7);

  Case dx{"gather_rows_dx", {c.in[0], filled(some_type(), {rows, width})}, {}, {}};
  std::vector<Numbers> want;
  for (int64_t s = 0; s < sources; ++s) {
    dx.out.push_back(blank(some_type(), c.in[1 + s].dims));
    want.push_back(Numbers(dx.out.back().at.size(), 0.0));
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width && index[r] >= 0; ++i)
      want[places[index[r]].first][places[index[r]].second * width + i] += dx.in[1](r, i);
  check(dx, want, 5e-5);
  c.in[0].at.push_back(static_cast<double>(places.size()));
  c.in[0].dims[0] = c.out[0].dims[0] = rows + 1;
  c.out[0].at.resize(static_cast<size_t>((rows + 1) * width));
  expect_error(c, "index");
}

void merge() {
  const int64_t requests = whole(1, 6), group = whole(1, 8), width = whole(1, 70);
  const auto events = ragged(requests, 700);
  std::vector<int64_t> groups = {0};
  for (int64_t r = 0; r < requests; ++r) groups.push_back(groups.back() + (events[r + 1] - events[r] + group - 1) / group);
  const int64_t merged = groups.back();
  Case c{"merge", {filled(some_type(), {events.back(), width}), integers(events), integers(groups)}, {blank(some_type(), {merged, group * width})},
         {static_cast<double>(group)}};
  Case dx{"merge_dx", {filled(some_type(), {merged, group * width}), integers(events), integers(groups)}, {blank(some_type(), {events.back(), width})},
          c.attributes};
  Numbers y(c.out[0].at.size(), 0.0), d(dx.out[0].at.size(), 0.0);
  for (int64_t r = 0; r < requests; ++r)
    for (int64_t back = 0; back < events[r + 1] - events[r]; ++back) {  // counted from the newest
      const int64_t event = events[r + 1] - 1 - back, row = groups[r + 1] - 1 - back / group, place = group - 1 - back % group;
      for (int64_t i = 0; i < width; ++i) {
        y[row * group * width + place * width + i] = c.in[0](event, i);
        d[event * width + i] = dx.in[0](row, place * width + i);
      }
    }
  check(c, {y}, 1e-7);
  check(dx, {d}, 1e-7);
}

void segment_pool() {
  const int64_t segments = whole(1, 9), width = whole(1, 2) * whole(1, 100);
  const auto offsets = ragged(segments, 2000);
  for (const double mode : {0.0, 1.0}) {
    Case c{"segment_pool", {filled(some_type(), {offsets.back(), width}), integers(offsets)}, {blank(some_type(), {segments, width})}, {mode}};
    Case dx{"segment_pool_dx", {filled(some_type(), {segments, width}), integers(offsets)}, {blank(some_type(), {offsets.back(), width})}, {mode}};
    Numbers y(c.out[0].at.size(), 0.0), d(dx.out[0].at.size(), 0.0);
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t r = offsets[s]; r < offsets[s + 1]; ++r)
        for (int64_t i = 0; i < width; ++i) {
          const double share = mode == 1 ? 1.0 / static_cast<double>(offsets[s + 1] - offsets[s]) : 1;
          y[s * width + i] += share * c.in[0](r, i);
          d[r * width + i] = share * dx.in[0](s, i);
        }
    check(c, {y}, 1e-4);
    check(dx, {d}, 1e-6);
  }
}

void concat() {
  const int64_t rows = whole(0, 3) ? whole(0, 1500) : whole(0, 1), parts = whole(1, 16);
  Case c{"concat", {}, {}, {}};
  int64_t width = 0;
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t w = whole(0, 2) ? whole(1, 20) : whole(60, 140);
    c.in.push_back(filled(some_type(), {rows, w}));
    width += w;
  }
  c.out = {blank(some_type(), {rows, width})};
  Case dx{"concat_dx", {filled(some_type(), {rows, width})}, {}, {}};
  Numbers y;
  std::vector<Numbers> want(static_cast<size_t>(parts));
  for (int64_t p = 0; p < parts; ++p) dx.out.push_back(blank(some_type(), c.in[p].dims));
  for (int64_t r = 0; r < rows; ++r) {
    int64_t column = 0;
    for (int64_t p = 0; p < parts; ++p)
      for (int64_t i = 0; i < c.in[p].cols(); ++i) {
        y.push_back(c.in[p](r, i));
        want[p].push_back(dx.in[0](r, column++));
      }
  }
  check(c, {y}, 1e-7);
  check(dx, want, 1e-7);
}

void pairs() {
  const int64_t requests = whole(1, 5), d = whole(0, 1) ? whole(1, 70) : 32;
  const auto candidates = ragged(requests, 9), events = ragged(requests, 800);
  std::vector<int64_t> offsets = {0};
  for (int64_t r = 0; r < requests; ++r)
    offsets.push_back(offsets.back() + (candidates[r + 1] - candidates[r]) * (events[r + 1] - events[r]));
  const int64_t c_rows = candidates.back(), e_rows = events.back(), p_rows = offsets.back();
  const Value at[] = {integers(candidates), integers(events), integers(offsets)};
  const Value c = filled(some_type(), {c_rows, d}), e = filled(some_type(), {e_rows, d});
  const auto each = [&](auto&& body) {
    for (int64_t r = 0, p = 0; r < requests; ++r)
      for (int64_t i = candidates[r]; i < candidates[r + 1]; ++i)
        for (int64_t j = events[r]; j < events[r + 1]; ++j) body(p++, i, j);
  };
  Case features{"pair_features", {c, e, at[0], at[1], at[2]}, {blank(some_type(), {p_rows, 4 * d})}, {}};
  Case features_dx{"pair_features_dx", {c, e, filled(some_type(), {p_rows, 4 * d}), at[0], at[1], at[2]},
                   {blank(some_type(), {c_rows, d}), blank(some_type(), {e_rows, d})}, {}};
  Case pool{"pair_pool", {filled(some_type(), {p_rows, 1}), e, at[0], at[1], at[2]}, {blank(some_type(), {c_rows, d})}, {}};
  Case pool_dx{"pair_pool_dx", {pool.in[0], e, filled(some_type(), {c_rows, d}), at[0], at[1], at[2]},
               {blank(some_type(), {p_rows, 1}), blank(some_type(), {e_rows, d})}, {}};
  Numbers y(features.out[0].at.size()), dc(c.at.size(), 0.0), de(e.at.size(), 0.0), pooled(c.at.size(), 0.0), dw(static_cast<size_t>(p_rows), 0.0),
      pool_de(e.at.size(), 0.0);
  each([&](int64_t p, int64_t i, int64_t j) {
    for (int64_t k = 0; k < d; ++k) {
      const double x = c(i, k), z = e(j, k), w = pool.in[0].at[p], g = pool_dx.in[2](i, k);
      const double four[] = {x, z, x - z, x * z};
      for (int64_t f = 0; f < 4; ++f) y[p * 4 * d + f * d + k] = four[f];
      const auto dy = [&](int64_t f) { return features_dx.in[2](p, f * d + k); };
      dc[i * d + k] += dy(0) + dy(2) + dy(3) * z;
      de[j * d + k] += dy(1) - dy(2) + dy(3) * x;
      pooled[i * d + k] += w * z;
      dw[p] += g * z;
      pool_de[j * d + k] += w * g;
    }
  });
  check(features, {y}, 1e-6);
  check(features_dx, {dc, de}, 5e-5);
  check(pool, {pooled}, 5e-5);
  check(pool_dx, {dw, pool_de}, 2e-5);
}

struct Ids {
  Value ids, offsets;
  double pooling;
};

Ids random_ids(int64_t rows, int64_t table) {
  const int64_t pooling = whole(0, 2);
  const auto offsets = pooling ? ragged(rows, 6) : std::vector<int64_t>{0, rows};
  std::vector<int64_t> ids;
  const int64_t top = whole(0, 1) ? table - 1 : std::min<int64_t>(table - 1, 3);
  for (int64_t i = 0; i < offsets.back(); ++i) ids.push_back(whole(-1, top));
  return {integers(ids), pooling ? integers(offsets) : none(), static_cast<double>(pooling)};
}

// body(id, share) for the ids of a row
template <class Body>
void each_id(const Ids& f, int64_t r, Body&& body) {
  const int64_t from = f.pooling > 0 ? static_cast<int64_t>(f.offsets.at[r]) : r, to = f.pooling > 0 ? static_cast<int64_t>(f.offsets.at[r + 1]) : r + 1;
  double there = 0;
  for (int64_t i = from; i < to; ++i) there += f.ids.at[i] >= 0 ? 1 : 0;
  for (int64_t i = from; i < to; ++i)
    if (f.ids.at[i] >= 0) body(static_cast<int64_t>(f.ids.at[i]), f.pooling == 2 ? 1 / there : 1);
}

void embed() {
  const int64_t rows = whole(0, 3) ? whole(0, 900) : whole(0, 1), fields = whole(1, 5), width = whole(40, 150);
  Case c{"embed", {}, {blank(some_type(), {rows, width})}, {static_cast<double>(fields)}};
  Numbers y(c.out[0].at.size(), 0.0);
  for (int64_t f = 0; f < fields; ++f) {
    const int64_t w = whole(1, 40), column = whole(0, width - w), size = whole(1, 300);
    const Value table = filled(DType::f32, {size, w});
    const Ids ids = random_ids(rows, size);
    c.in.insert(c.in.end(), {table, ids.ids, ids.offsets});
    c.attributes.insert(c.attributes.end(), {static_cast<double>(column), ids.pooling});
    for (int64_t r = 0; r < rows; ++r)
      each_id(ids, r, [&](int64_t id, double share) {
        for (int64_t i = 0; i < w; ++i) y[r * width + column + i] += share * table(id, i);
      });
  }
  check(c, {y}, 1e-6);
  if (rows == 0 || c.in[1].at.empty()) return;
  c.in[1].at[0] = static_cast<double>(c.in[0].rows());
  expect_error(c, "embed: ");
}

void sparse_grad(int64_t rows, int64_t table, int64_t width) {
  const int64_t uses = whole(1, 3);
  Case c{"sparse_grad", {}, {}, {static_cast<double>(uses)}};
  std::map<int64_t, Numbers> sums;
  int64_t total = 0;
  for (int64_t u = 0; u < uses; ++u) {
    const int64_t whole_width = width + whole(0, 20), column = whole(0, whole_width - width);
    const Ids ids = random_ids(rows, table);
    const Value dy = filled(some_type(), {rows, whole_width});
    c.in.insert(c.in.end(), {ids.ids, ids.offsets, dy});
    c.attributes.insert(c.attributes.end(), {static_cast<double>(column), ids.pooling});
    total += ids.ids.rows();
    for (int64_t r = 0; r < rows; ++r)
      each_id(ids, r, [&](int64_t id, double share) {
        Numbers& sum = sums[id];
        sum.resize(static_cast<size_t>(width), 0.0);
        for (int64_t i = 0; i < width; ++i) sum[i] += share * dy(r, column + i);
      });
  }
  c.out = {blank(DType::i32, {total}), blank(DType::f32, {total, width}), blank(DType::i32, {1})};
  Numbers unique, grad;
  for (const auto& [id, sum] : sums) {
    unique.push_back(static_cast<double>(id));
    grad.insert(grad.end(), sum.begin(), sum.end());
  }
  const int64_t n = static_cast<int64_t>(unique.size());
  check(c, {unique, grad, {static_cast<double>(n)}}, 1e-4, {n, n * width, 1});
}

void time_bucket() {
  const int64_t requests = whole(1, 5), count = whole(0, 60);
  const auto offsets = ragged(requests, 3000);
  Value event = blank(DType::f64, {offsets.back()}), request = blank(DType::f64, {requests}), boundaries = blank(DType::f64, {count});
  for (int64_t b = 0; b < count; ++b) boundaries.at[b] = std::ceil(std::pow(2.0, static_cast<double>(b) / 2));
  Numbers want;
  for (int64_t r = 0; r < requests; ++r) {
    request.at[r] = uniform(1e9, 2e9);
    for (int64_t e = offsets[r]; e < offsets[r + 1]; ++e) {
      event.at[e] = std::floor(request.at[r]) - std::floor(std::pow(2.0, uniform(-1, 30))) + static_cast<double>(whole(0, 3));
      double bucket = 0;
      for (const double b : boundaries.at) bucket += b <= std::max(0.0, request.at[r] - event.at[e]) ? 1 : 0;
      want.push_back(bucket);
    }
  }
  check({"time_bucket", {event, request, integers(offsets), boundaries}, {blank(DType::i32, {offsets.back()})}, {}}, {want});
}

void sparse_optimizers() {
  const int64_t table = whole(1, 500), width = whole(1, 70), most = whole(0, table);
  std::vector<int64_t> rows;
  for (int64_t id = 0; id < table && static_cast<int64_t>(rows.size()) < most; ++id)
    if (whole(0, 1)) rows.push_back(id);
  const int64_t count = static_cast<int64_t>(rows.size());
  rows.resize(static_cast<size_t>(count + 3), 1 << 30);  // what stands beyond count must not be read as a row
  const Value grad = filled(DType::f32, {count + 3, width}), hyper = filled(DType::f32, {8}, 0.01, 0.1);
  const double rate = hyper.at[2], eps = 1e-6;
  for (const double scale : {0.5, std::nan("")}) {
    Value scales = blank(DType::f32, {1});
    scales.at[0] = scale;
    const std::vector<Value> in = {integers(rows), grad, integers({count}), hyper, scales};
    Value t = filled(DType::f32, {table, width}), by_row = filled(DType::f32, {table}, 0, 1), by_element = filled(DType::f32, {table, width}, 0, 1),
          m = filled(DType::f32, {table, width}), steps = integers(std::vector<int64_t>(static_cast<size_t>(table), 3));
    Numbers t1 = t.at, s1 = by_row.at, t2 = t.at, s2 = by_element.at, t3 = t.at, m3 = m.at, v3 = by_element.at, n3 = steps.at;
    for (int64_t i = 0; i < count && scale == scale; ++i) {
      double squares = 0;
      for (int64_t j = 0; j < width; ++j) squares += std::pow(grad(i, j) * scale, 2) / static_cast<double>(width);
      s1[rows[i]] += squares;
      n3[rows[i]] += 1;
      for (int64_t j = 0; j < width; ++j) {
        const int64_t at = rows[i] * width + j;
        const double g = grad(i, j) * scale;
        t1[at] -= rate * g / (std::sqrt(s1[rows[i]]) + eps);
        s2[at] += g * g;
        t2[at] -= rate * g / (std::sqrt(s2[at]) + eps);
        m3[at] = 0.9 * m3[at] + 0.1 * g;
        v3[at] = 0.999 * v3[at] + 0.001 * g * g;
        t3[at] -= rate * m3[at] / (1 - std::pow(0.9, 4)) / (std::sqrt(v3[at] / (1 - std::pow(0.999, 4))) + eps);
      }
    }
    check({"rowwise_adagrad", in, {t, by_row}, {eps}}, {t1, s1}, 1e-6);
    check({"sparse_adagrad", in, {t, by_element}, {eps}}, {t2, s2}, 1e-6);
    check({"sparse_adam", in, {t, m, by_element, steps}, {0.9, 0.999, eps}}, {t3, m3, v3, n3}, 1e-6);
  }
}

}  // namespace

int main() {
  if (!isa_is_there()) return kSkipped;
  for (int round = 0; round < 25; ++round) {
    gather_rows();
    merge();
    segment_pool();
    concat();
    embed();
    time_bucket();
    sparse_optimizers();
    sparse_grad(whole(0, 3) ? whole(0, 2000) : whole(0, 1), whole(1, 400), whole(1, 140));
  }
  for (int round = 0; round < 8; ++round) pairs();
  sparse_grad(40000, 5, 8);            // ids with very many sources
  sparse_grad(30000, 200000000, 16);   // ids of three bytes and more
  sparse_grad(20000, 70000, 3);
  return report("rows_test");
}
