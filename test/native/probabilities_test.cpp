// What attention sees: the exponentials of the scores and of the lse that attention itself gives, averaged over heads.
#include "op_case.h"

using namespace longer;
using namespace longer::test;

namespace {

void problem() {
  const int64_t requests = whole(1, 4), heads = whole(1, 3), head_width = std::vector<int64_t>{64, 32, 16, 5, 24}[static_cast<size_t>(whole(0, 4))];
  const int64_t width = heads * head_width, m = whole(1, 3);
  const DType type = whole(0, 1) ? DType::bf16 : DType::f32;
  const double scale = 1 / std::sqrt(static_cast<double>(head_width)), h = static_cast<double>(heads);
  std::vector<int64_t> queries, keys, limits, candidates;
  int64_t most = 0;
  for (int64_t b = 0; b < requests; ++b) {
    queries.push_back(whole(0, 3) == 0 ? whole(0, 1) : whole(1, 20));
    keys.push_back(whole(0, 4) == 0 ? whole(0, 1) : whole(1, 100));
    candidates.push_back(whole(0, 6));
    most = std::max(most, keys.back());
    for (int64_t r = 0; r < queries.back(); ++r) limits.push_back(whole(0, keys.back() + 1));
  }
  const auto q = running(queries), k = running(keys), c = running(candidates);
  const int64_t columns = most + m + whole(0, 5), rows = c.back() * m;
  const Value ask = filled(type, {q.back(), width}), key = filled(type, {k.back(), width});
  const Value own_q = filled(type, {rows, width}), own_k = filled(type, {rows, width});

  const auto probability = [&](const Value& a, int64_t r, const Value& b, int64_t j, const std::vector<double>& lse) {
    double p = 0;
    for (int64_t g = 0; g < heads; ++g) {
      double s = 0;
      for (int64_t i = g * head_width; i < (g + 1) * head_width; ++i) s += a(r, i) * b(j, i);
      p += std::exp(scale * s - lse[static_cast<size_t>(r * heads + g)]) / h;
    }
    return p;
  };

  const std::vector<double> lse = run({"attention", {ask, key, key, integers(q), integers(k), integers(limits)}, {blank(type, {q.back(), width}), blank(DType::f32, {q.back(), heads})}, {h, scale}}, true, 1).values[1];
  Value want = blank(DType::f32, {q.back(), columns});
  for (size_t b = 0; b < keys.size(); ++b)
    for (int64_t r = q[b]; r < q[b + 1]; ++r)
      for (int64_t j = 0; j < std::min(keys[b], limits[static_cast<size_t>(r)]); ++j) want(r, j) = probability(ask, r, key, k[b] + j, lse);
  const Case plain{"attention_probabilities", {ask, key, integers(q), integers(k), integers(limits)}, {blank(DType::f32, {q.back(), columns})}, {h, scale}};
  check(plain, {want.at}, 1e-5);

  const double each = static_cast<double>(m);
  const std::vector<double> own_lse = run({"candidate_attention", {own_q, own_k, own_k, key, key, integers(c), integers(k)}, {blank(type, {rows, width}), blank(DType::f32, {rows, heads})}, {h, scale, each}}, true, 1).values[1];
  want = blank(DType::f32, {rows, columns});
  for (size_t b = 0; b < keys.size(); ++b)
    for (int64_t r = c[b] * m; r < c[b + 1] * m; ++r) {
      for (int64_t j = 0; j < keys[b]; ++j) want(r, j) = probability(own_q, r, key, k[b] + j, own_lse);
      for (int64_t t = 0; t <= r % m; ++t) want(r, keys[b] + t) = probability(own_q, r, own_k, r / m * m + t, own_lse);
    }
  const Case own{"candidate_attention_probabilities", {own_q, own_k, key, integers(c), integers(k)}, {blank(DType::f32, {rows, columns})}, {h, scale, each}};
  check(own, {want.at}, 1e-5);

  if (most == 0) return;
  for (Case few : {plain, own}) {
    few.out[0] = blank(DType::f32, {few.out[0].rows(), most + (few.op == plain.op ? 0 : m) - 1});
    expect_error(few, "more keys than p has columns");
  }
}

}  // namespace

int main() {
  if (!isa_is_there()) return kSkipped;
  for (int round = 0; round < 60; ++round) problem();
  return report("probabilities_test");
}
