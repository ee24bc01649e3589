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

int64_t quantised(float x, float most) { return most >= 1e-30f ? static_cast<int64_t>(std::nearbyint(x * (127 / most))) : 0; }

// Rows in int8 as words, and the numbers that they stand for.
void quantise(const Value& x, int64_t heads, Value& words, Value& numbers) {
  const int64_t head_width = x.cols() / heads;
  words = blank(DType::i32, {x.rows(), heads + x.cols() / 4});
  numbers = blank(DType::f32, x.dims);
  std::vector<int32_t> row(static_cast<size_t>(words.cols()));
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t g = 0; g < heads; ++g) {
      float most = 0;
      for (int64_t c = g * head_width; c < (g + 1) * head_width; ++c) most = std::fmax(most, std::fabs(static_cast<float>(x(r, c))));
      const float scale = most < 1e-30f ? 0 : most / 127;
      std::memcpy(&row[static_cast<size_t>(g)], &scale, 4);
      for (int64_t c = g * head_width; c < (g + 1) * head_width; ++c) {
        const auto q = static_cast<int8_t>(quantised(static_cast<float>(x(r, c)), most));
        std::memcpy(reinterpret_cast<char*>(row.data() + heads) + c, &q, 1);
        numbers(r, c) = static_cast<float>(scale * q);
        expect(std::fabs(numbers(r, c) - x(r, c)) <= 0.5001 * scale, "a number in int8 is further off than half a step");
      }
    }
    for (int64_t c = 0; c < words.cols(); ++c) words(r, c) = row[static_cast<size_t>(c)];
  }
}

// Rows that are written in int8, and attention over them: that over the numbers that they stand for.
void int8() {
  const int64_t requests = whole(1, 3), heads = whole(1, 3), head_width = std::vector<int64_t>{64, 32, 16, 4, 12}[static_cast<size_t>(whole(0, 4))];
  const int64_t width = heads * head_width, m = whole(1, 2), page_rows = int64_t{1} << whole(0, 6);
  const DType type = whole(0, 1) ? DType::bf16 : DType::f32;
  std::vector<int64_t> queries, keys, limits;
  for (int64_t b = 0; b < requests; ++b) {
    queries.push_back(whole(0, 20));
    keys.push_back(whole(0, 200));
    for (int64_t r = 0; r < queries.back(); ++r) limits.push_back(whole(0, keys.back()));
  }
  const auto q = running(queries), offsets = running(keys);
  Value x = filled(type, {offsets.back(), width}, -3, 3);
  for (int64_t c = 0; c < head_width && x.rows() > 0; ++c) x(whole(0, x.rows() - 1), c) = 0;
  Value words, numbers;
  quantise(x, heads, words, numbers);

  std::vector<int64_t> places(static_cast<size_t>(x.rows()));
  std::iota(places.begin(), places.end(), 0);
  std::shuffle(places.begin(), places.end(), bits);
  Value want = blank(DType::i32, {x.rows() + 3, words.cols()});
  for (double& w : want.at) w = 5;
  Case write{"write_quantised_rows", {integers(places), x}, {want}, {static_cast<double>(heads)}};
  for (int64_t r = 0; r < x.rows(); ++r)
    for (int64_t c = 0; c < words.cols(); ++c) want(places[static_cast<size_t>(r)], c) = words(r, c);
  check(write, {want.at});
  if (x.rows() > 0) {
    Case bad = write;
    bad.in[0].at[0] = static_cast<double>(want.rows());
    expect_error(bad, "there are " + std::to_string(want.rows()) + " rows");
  }

  // With bf16 rows what is read of a page is rounded to bf16 once more.
  for (double& n : numbers.at) n = type == DType::bf16 ? from_bf16(to_bf16(static_cast<float>(n))) : n;
  numbers.type = type;
  const Tables t = paged(words, words, keys, page_rows, whole(0, 1));
  Value k_pool = t.k_pool, v_pool = t.v_pool;
  for (Value* pool : {&k_pool, &v_pool})
    for (double& w : pool->at) w = std::isnan(w) ? 0x7fc00000 : w;  // a scale of NaN: nothing else of a pool is read
  const double h = static_cast<double>(heads), scale = 1 / std::sqrt(static_cast<double>(head_width)), p = static_cast<double>(page_rows);
  const auto like = [](const Case& pages, const Case& plain) {
    for (const int threads : {1, 3}) expect(run(pages, false, threads).bytes == run(plain, false, 2).bytes, pages.op + " over int8 differs from " + plain.op);
    const Result a = run(pages, true, 1), b = run(plain, true, 1);
    for (size_t i = 0; i < a.values[0].size(); ++i) expect(std::fabs(a.values[0][i] - b.values[0][i]) < 2e-2, pages.op + ": the references differ");
  };
  const Value rows = filled(type, {q.back(), width});
  like({"paged_attention", {rows, k_pool, v_pool, integers(t.k), integers(t.v), integers(q), spans_of(t.spans), integers(limits)}, {blank(type, {q.back(), width}), blank(DType::f32, {q.back(), heads})}, {h, scale, p}},
       {"attention", {rows, numbers, numbers, integers(q), integers(offsets), integers(limits)}, {blank(type, {q.back(), width}), blank(DType::f32, {q.back(), heads})}, {h, scale}});
  const Value own = filled(type, {m * q.back(), width});
  const std::vector<Value> out = {blank(type, {m * q.back(), width}), blank(DType::f32, {m * q.back(), heads})};
  like({"paged_candidate_attention", {own, own, own, k_pool, v_pool, integers(t.k), integers(t.v), integers(q), spans_of(t.spans)}, out, {h, scale, static_cast<double>(m), p}},
       {"candidate_attention", {own, own, own, numbers, numbers, integers(q), integers(offsets)}, out, {h, scale, static_cast<double>(m)}});
}

void no_number_in_int8() {
  for (const double bad : {kNaN, std::numeric_limits<double>::infinity()}) {
    Case c{"write_quantised_rows", {integers({0}), filled(DType::f32, {1, 32})}, {blank(DType::i32, {1, 10})}, {2}};
    c.in[1](0, 3) = bad;
    for (const bool reference : {true, false}) {
      const auto word = static_cast<int32_t>(run(c, reference, 1).values[0][0]);
      float scale;
      std::memcpy(&scale, &word, 4);
      expect(std::isnan(scale), "a head with a number that is none must be NaN");
    }
  }
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
    int8();
  }
  no_number_in_int8();
  return report("pages_test");
}
