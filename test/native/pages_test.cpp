// Attention over pages: the bits of the same attention over rows that lie end to end, wherever the pages lie, and nothing
// of a pool but the rows of the spans is read. Rows that are written, in place.
#include <algorithm>
#include <limits>
#include <numeric>

#include "op_case.h"

using namespace longer;
using namespace longer::test;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<int64_t> running(const std::vector<int64_t>& counts) {
  std::vector<int64_t> offsets = {0};
  for (const int64_t n : counts) offsets.push_back(offsets.back() + n);
  return offsets;
}

struct Tables {
  std::vector<int64_t> k, v, spans;
  Value k_pool, v_pool;
};

// Keys of each segment dealt to pages of a pool whose other rows are NaN. `runs`: pages of a segment lie side by side.
Tables paged(const Value& k, const Value& v, const std::vector<int64_t>& counts, int64_t page_rows, bool runs) {
  Tables t;
  std::vector<int64_t> starts, pages;
  for (const int64_t n : counts) {
    starts.push_back(whole(0, 2 * page_rows));
    pages.push_back((starts.back() + n + page_rows - 1) / page_rows);
  }
  const int64_t all = std::accumulate(pages.begin(), pages.end(), int64_t{0}) + 3;
  const auto table = [&] {
    std::vector<int64_t> list(static_cast<size_t>(all));
    std::iota(list.begin(), list.end(), 0);
    if (!runs) std::shuffle(list.begin(), list.end(), bits);
    list.resize(static_cast<size_t>(all - 3));
    return list;
  };
  t.k = table();
  t.v = table();
  t.k_pool = blank(k.type, {all * page_rows, k.cols()});
  std::fill(t.k_pool.at.begin(), t.k_pool.at.end(), kNaN);
  t.v_pool = t.k_pool;
  for (size_t s = 0, first_page = 0, key = 0; s < counts.size(); first_page += static_cast<size_t>(pages[s++])) {
    const int64_t first = static_cast<int64_t>(first_page) * page_rows + starts[s];
    t.spans.insert(t.spans.end(), {first, counts[s]});
    for (int64_t j = first; j < first + counts[s]; ++j, ++key)
      for (int64_t c = 0; c < k.cols(); ++c) {
        t.k_pool(t.k[static_cast<size_t>(j / page_rows)] * page_rows + j % page_rows, c) = k(static_cast<int64_t>(key), c);
        t.v_pool(t.v[static_cast<size_t>(j / page_rows)] * page_rows + j % page_rows, c) = v(static_cast<int64_t>(key), c);
      }
  }
  return t;
}

Value spans_of(const std::vector<int64_t>& spans) {
  Value v = integers(spans);
  v.dims = {static_cast<int64_t>(spans.size()) / 2, 2};
  return v;
}

void same(const Case& pages, const Case& whole_rows) {
  const Result want = run(whole_rows, false, 2);
  for (const int threads : {1, 3}) expect(run(pages, false, threads).bytes == want.bytes, pages.op + " differs from " + whole_rows.op);
  expect(run(pages, true, 1).bytes == run(whole_rows, true, 1).bytes, pages.op + ": the references differ");
}

void attention() {
  const int64_t requests = whole(1, 4), heads = whole(1, 3), head_width = std::vector<int64_t>{64, 32, 16, 5, 24}[static_cast<size_t>(whole(0, 4))];
  const int64_t width = heads * head_width, m = whole(1, 3), page_rows = int64_t{1} << whole(0, 6);
  const DType type = whole(0, 1) ? DType::bf16 : DType::f32;
  std::vector<int64_t> queries, keys, limits;
  for (int64_t b = 0; b < requests; ++b) {
    queries.push_back(whole(0, 3) == 0 ? whole(0, 1) : whole(0, 1) ? whole(1, 10) : whole(11, 130));
    keys.push_back(whole(0, 4) == 0 ? whole(0, 1) : whole(1, 300));
    for (int64_t r = 0; r < queries.back(); ++r) limits.push_back(whole(0, keys.back()));
  }
  const auto q = running(queries), offsets = running(keys);
  const Value k = filled(type, {offsets.back(), width}), v = filled(type, {offsets.back(), width});
  const Tables t = paged(k, v, keys, page_rows, whole(0, 1));
  const double h = static_cast<double>(heads), scale = 1 / std::sqrt(static_cast<double>(head_width)), p = static_cast<double>(page_rows);

  const Value rows = filled(type, {q.back(), width});
  const std::vector<Value> out = {blank(type, {q.back(), width}), blank(DType::f32, {q.back(), heads})};
  Case pages{"paged_attention", {rows, t.k_pool, t.v_pool, integers(t.k), integers(t.v), integers(q), spans_of(t.spans), integers(limits)}, out, {h, scale, p}};
  same(pages, {"attention", {rows, k, v, integers(q), integers(offsets), integers(limits)}, out, {h, scale}});

  const std::vector<Value> own = {filled(type, {m * q.back(), width}), filled(type, {m * q.back(), width}), filled(type, {m * q.back(), width})};
  const std::vector<Value> more = {blank(type, {m * q.back(), width}), blank(DType::f32, {m * q.back(), heads})};
  same({"paged_candidate_attention", {own[0], own[1], own[2], t.k_pool, t.v_pool, integers(t.k), integers(t.v), integers(q), spans_of(t.spans)}, more,
        {h, scale, static_cast<double>(m), p}},
       {"candidate_attention", {own[0], own[1], own[2], k, v, integers(q), integers(offsets)}, more, {h, scale, static_cast<double>(m)}});

  if (t.k.empty()) return;
  Case bad = pages;
  bad.in[4].at[0] = static_cast<double>(t.v_pool.rows() / page_rows);
  expect_error(bad, "outside its pool");
  bad = pages;
  bad.in[6].at[0] = static_cast<double>(static_cast<int64_t>(t.k.size()) * page_rows + 1);
  expect_error(bad, "outside its pages");
}

void write_rows() {
  const int64_t all = whole(1, 400), rows = whole(0, all), width = whole(1, 200);
  std::vector<int64_t> places(static_cast<size_t>(all));
  std::iota(places.begin(), places.end(), 0);
  if (whole(0, 1)) std::shuffle(places.begin(), places.end(), bits);
  places.resize(static_cast<size_t>(rows));
  Case c{"write_rows", {integers(places), filled(whole(0, 1) ? DType::bf16 : DType::f32, {rows, width})}, {filled(whole(0, 1) ? DType::bf16 : DType::f32, {all, width})}, {}};
  Value want = c.out[0];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) want(places[static_cast<size_t>(r)], i) = c.in[1](r, i);
  check(c, {want.at}, 1e-7);
  if (rows == 0) return;
  c.in[0].at[0] = static_cast<double>(all);
  expect_error(c, "there are " + std::to_string(all) + " rows");
}

}  // namespace

int main() {
  if (!isa_is_there()) return kSkipped;
  for (int round = 0; round < 60; ++round) {
    attention();
    write_rows();
  }
  return report("pages_test");
}
