// Random cases of the attention operations.
#pragma once
#include <cmath>

#include "kernels/attention_kernels.h"
#include "kernels/inner_transformer.h"
#include "kernels/quantised_rows.h"
#include "simt/dice.h"
#include "simt/op_case.h"

namespace simt {

// Heads, with the matrices of rows that they lie in.
struct Heads {
  longer::DType type;
  int64_t heads, head_width;
  int64_t width() const { return heads * head_width; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_width)); }
  // With rows that in int8 are whole words; heads of odd widths share some.
  Heads quantisable() const { return width() % 4 ? Heads{type, 4, head_width} : *this; }
};

inline Heads any_heads(Dice& d) {
  Heads h;
  h.type = d.type();
  h.head_width = d.one_of<int64_t>({1, 5, 8, 16, 24, 32, 40, 64, 72, 128});
  h.heads = d.whole(1, h.head_width > 40 ? 2 : 3);
  return h;
}

// Keys of each row: causal, aligned at the last; all; or any number, some out of range.
inline std::vector<int32_t> any_limits(Dice& d, const std::vector<int32_t>& rows, const std::vector<int32_t>& keys) {
  std::vector<int32_t> limits;
  const int64_t kind = d.whole(0, 2);
  for (size_t r = 0; r + 1 < rows.size(); ++r) {
    const int32_t count = rows[r + 1] - rows[r], most = keys[r + 1] - keys[r];
    for (int32_t i = 0; i < count; ++i)
      limits.push_back(kind == 0 ? most - count + i + 1 : kind == 1 ? most : static_cast<int32_t>(d.whole(-2, most + 3)));
  }
  return limits;
}

inline int64_t longest(const std::vector<int32_t>& offsets) {
  int64_t most = 0;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) most = std::max<int64_t>(most, offsets[s + 1] - offsets[s]);
  return most;
}

// Any bytes, and scales with which every number in int8 is one of bf16 and of f16: an error is the kernel's alone.
inline std::vector<double> any_quantised_rows(Dice& d, int64_t rows, const Heads& h) {
  std::vector<double> words;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < h.heads; ++g) words.push_back(static_cast<double>(__float_as_uint(d.whole(0, 9) ? d.one_of({0.0078125f, 0.015625f}) : 0.f)));
    for (int64_t w = 0; w < h.width() / 4; ++w) words.push_back(static_cast<double>(d.whole(INT32_MIN, INT32_MAX)));
  }
  return words;
}

// The reference's own o and lse go into the gradient, so that only its own error is seen.
template <class Add>
void add_attention(OpCase& c, Dice& d, bool backward, const Heads& h, int64_t rows, OpCase forward, Add add_inputs) {
  add_inputs(c);
  if (!backward) {
    c.out(h.type, {rows, h.width()});
    d.coin() ? c.out(longer::DType::f32, {rows, h.heads}) : c.out_absent();
    return;
  }
  add_inputs(forward);
  forward.out(h.type, {rows, h.width()}).out(longer::DType::f32, {rows, h.heads}).attributes(c.given_attributes());
  forward.run_reference();
  c.in(h.type, {rows, h.width()}, forward.exact_out(0)).in(longer::DType::f32, {rows, h.heads}, forward.exact_out(1));
  c.in(h.type, {rows, h.width()}, -1, 1);
}

inline void attention_case(OpCase& c, Dice& d, bool backward) {
  const Heads h = any_heads(d);
  const int64_t requests = d.whole(0, 4);
  const std::vector<int32_t> rows = d.offsets(requests), keys = d.offsets(requests);
  const std::vector<double> q = d.numbers(rows.back() * h.width(), -3, 3), k = d.numbers(keys.back() * h.width(), -3, 3);
  const std::vector<double> v = d.numbers(keys.back() * h.width(), -1, 1);
  const std::vector<int32_t> limits = any_limits(d, rows, keys);
  c.attributes({static_cast<double>(h.heads), h.scale()});
  add_attention(c, d, backward, h, rows.back(), OpCase("attention", longer::reference::attention, 1), [&](OpCase& to) {
    to.in(h.type, {rows.back(), h.width()}, q).in(h.type, {keys.back(), h.width()}, k).in(h.type, {keys.back(), h.width()}, v);
    if (&to == &c && backward) return;
    to.in(rows).in(keys).in(limits);
  });
  if (!backward) return;
  c.in(rows).in(keys).in(limits).out(h.type, {rows.back(), h.width()});
  c.out(h.type, {keys.back(), h.width()}).out(h.type, {keys.back(), h.width()});
}

inline void candidate_attention_case(OpCase& c, Dice& d, bool backward) {
  const Heads h = any_heads(d);
  const int64_t requests = d.whole(0, 3), m = d.one_of<int64_t>({1, 2, 3, 8, 17, 70});
  const std::vector<int32_t> candidates = d.offsets(requests, 150 / m + 1), keys = d.offsets(requests);
  const int64_t rows = candidates.back() * m;
  std::vector<double> of_rows[3], of_keys[2];
  for (auto& list : of_rows) list = d.numbers(rows * h.width(), -2, 2);
  for (auto& list : of_keys) list = d.numbers(keys.back() * h.width(), -2, 2);
  c.attributes({static_cast<double>(h.heads), h.scale(), static_cast<double>(m)});
  add_attention(c, d, backward, h, rows, OpCase("candidate_attention", longer::reference::candidate_attention, 1), [&](OpCase& to) {
    for (auto& list : of_rows) to.in(h.type, {rows, h.width()}, list);
    for (auto& list : of_keys) to.in(h.type, {keys.back(), h.width()}, list);
    if (&to == &c && backward) return;
    to.in(candidates).in(keys);
  });
  if (!backward) return;
  c.in(candidates).in(keys);
  for (int i = 0; i < 3; ++i) c.out(h.type, {rows, h.width()});
  for (int i = 0; i < 2; ++i) c.out(h.type, {keys.back(), h.width()});
}

// Keys in pages: tables name the pages of each pool in any order, some of them twice, some not at all; spans of a table may overlap.
struct Pages {
  int64_t page_rows, pool_pages[2];
  std::vector<int32_t> tables[2];
  std::vector<double> spans;  // first, count

  Pages(Dice& d, int64_t segments) : page_rows(d.one_of<int64_t>({1, 3, 16, 64, 100})) {
    const int64_t listed = d.whole(0, 2) ? d.whole(1, 200 / page_rows + 2) : 0;
    for (int i = 0; i < 2; ++i) {
      pool_pages[i] = listed ? listed + d.whole(0, 5) : 0;
      tables[i] = d.whole_list(listed, 0, pool_pages[i] - 1);
    }
    for (int64_t s = 0; s < segments; ++s) {
      const int64_t first = d.whole(0, listed * page_rows);
      spans.push_back(static_cast<double>(first));
      spans.push_back(static_cast<double>(d.whole(0, listed * page_rows - first)));
    }
  }
  OpCase& add_pools(OpCase& c, Dice& d, const Heads& h, bool quantised) const {
    for (const int64_t pages : pool_pages) {
      const int64_t rows = pages * page_rows;
      if (quantised) c.in(longer::DType::i32, {rows, longer::quantised_words(h.width(), h.heads)}, any_quantised_rows(d, rows, h));
      else c.in(h.type, {rows, h.width()}, -2, 2);
    }
    return c.in(tables[0]).in(tables[1]);
  }
  OpCase& add_spans(OpCase& c) const { return c.in(longer::DType::i32, {static_cast<int64_t>(spans.size()) / 2, 2}, spans); }
};

inline void paged_attention_case(OpCase& c, Dice& d) {
  const bool quantised = d.coin();
  const Heads h = quantised ? any_heads(d).quantisable() : any_heads(d);
  const int64_t segments = d.whole(0, 4);
  const std::vector<int32_t> rows = d.offsets(segments);
  const Pages pages(d, segments);
  std::vector<int32_t> limits = d.whole_list(rows.back(), -2, 200);
  pages.add_pools(c.in(h.type, {rows.back(), h.width()}, -2, 2), d, h, quantised).in(rows);
  pages.add_spans(c).in(limits).out(h.type, {rows.back(), h.width()});
  d.coin() ? c.out(longer::DType::f32, {rows.back(), h.heads}) : c.out_absent();
  c.attributes({static_cast<double>(h.heads), h.scale(), static_cast<double>(pages.page_rows)});
}

inline void paged_candidate_attention_case(OpCase& c, Dice& d) {
  const bool quantised = d.coin();
  const Heads h = quantised ? any_heads(d).quantisable() : any_heads(d);
  const int64_t requests = d.whole(0, 3), m = d.one_of<int64_t>({1, 2, 3, 8, 17});
  const std::vector<int32_t> candidates = d.offsets(requests, 150 / m + 1);
  const int64_t rows = candidates.back() * m;
  const Pages pages(d, requests);
  for (int i = 0; i < 3; ++i) c.in(h.type, {rows, h.width()}, -2, 2);
  pages.add_pools(c, d, h, quantised).in(candidates);
  pages.add_spans(c).out(h.type, {rows, h.width()});
  d.coin() ? c.out(longer::DType::f32, {rows, h.heads}) : c.out_absent();
  c.attributes({static_cast<double>(h.heads), h.scale(), static_cast<double>(m), static_cast<double>(pages.page_rows)});
}

// Rows, keys, and more columns than any row sees keys.
inline void probabilities_case(OpCase& c, Dice& d) {
  const Heads h = any_heads(d);
  const int64_t requests = d.whole(0, 4);
  const std::vector<int32_t> rows = d.offsets(requests), keys = d.offsets(requests);
  c.in(h.type, {rows.back(), h.width()}, -3, 3).in(h.type, {keys.back(), h.width()}, -3, 3).in(rows).in(keys).in(any_limits(d, rows, keys));
  c.out(longer::DType::f32, {rows.back(), longest(keys) + d.whole(0, 5)}).attributes({static_cast<double>(h.heads), h.scale()});
}

inline void candidate_probabilities_case(OpCase& c, Dice& d) {
  const Heads h = any_heads(d);
  const int64_t requests = d.whole(0, 3), m = d.one_of<int64_t>({1, 2, 3, 8, 17, 70});
  const std::vector<int32_t> candidates = d.offsets(requests, 150 / m + 1), keys = d.offsets(requests);
  const int64_t rows = candidates.back() * m;
  for (int i = 0; i < 2; ++i) c.in(h.type, {rows, h.width()}, -2, 2);
  c.in(h.type, {keys.back(), h.width()}, -2, 2).in(candidates).in(keys);
  c.out(longer::DType::f32, {rows, longest(keys) + m + d.whole(0, 5)}).attributes({static_cast<double>(h.heads), h.scale(), static_cast<double>(m)});
}

// Groups of one event, of a few, and of more than a request has.
inline void group_attention_case(OpCase& c, Dice& d, bool backward) {
  const Heads h = any_heads(d);
  const std::vector<int32_t> events = d.offsets(d.whole(0, 5), 200);
  const int64_t group = d.whole(0, 3) ? d.whole(1, 16) : d.one_of<int64_t>({17, 64, 90, int64_t{1} << 40});
  for (int i = 0; i < 3; ++i) c.in(h.type, {events.back(), h.width()}, -2, 2);
  if (backward) c.in(h.type, {events.back(), h.width()}, -1, 1);
  c.in(events).attributes({static_cast<double>(h.heads), h.scale(), static_cast<double>(group)});
  for (int i = 0; i < (backward ? 3 : 1); ++i) c.out(h.type, {events.back(), h.width()});
}

struct InnerForm {
  longer::DType type;
  int64_t width, heads, group;
  bool rms, outer;
  std::vector<int32_t> events;
};

inline void add_inner_transformer(OpCase& c, Dice& d, bool backward, const InnerForm& f) {
  const longer::DType f32 = longer::DType::f32;
  const auto attribute = [](auto x) { return static_cast<double>(x); };
  c.in(f.type, {f.events.back(), f.width}, -2, 2);
  if (backward) c.in(f.type, {f.events.back(), f.width}, -1, 1);
  c.in(f.events).attributes({attribute(f.heads), std::sqrt(attribute(f.heads) / attribute(f.width)), attribute(f.group), attribute(f.rms), 1e-5, attribute(f.outer)});
  c.out(f.type, {f.events.back(), f.width});
  for (int i = 0; i < longer::kInnerParameters; ++i) {
    const int64_t size = longer::inner_parameter_size(i, f.width);
    const bool gain = i == longer::kGamma1 || i == longer::kGamma2, shift = i == longer::kBeta1 || i == longer::kBeta2;
    if (shift && f.rms) {
      c.in_absent();
      if (backward) c.out_absent();
      continue;
    }
    // A matrix holds numbers that bf16 holds, as it is rounded before it is multiplied.
    const double most = size > 4 * f.width ? 1.5 / std::sqrt(attribute(f.width)) : 0.5;
    std::vector<double> values = d.numbers(size, gain ? 0.5 : -most, gain ? 1.5 : most);
    for (double& v : values) v = rounded(v, size > 4 * f.width ? longer::DType::bf16 : f32);
    c.in(f32, {size}, values);
    if (backward) c.out(f32, {size});
  }
  c.rounds_to(f.type);
  if (!backward) return;
  c.measured_by(1 + longer::kBk, 1 + longer::kWk);  // a key's bias moves all scores of a row alike: its gradient is none
  c.measured_by(1 + longer::kBq, 1 + longer::kWq);  // and of a few keys much of a query's cancels
}

// Blocks of every form that the device has: widths, heads, groups of 1 to 16 events (those that 16 is no multiple of, too), both norms.
inline void inner_transformer_case(OpCase& c, Dice& d, bool backward) {
  const longer::DType type = d.coin() ? longer::DType::bf16 : longer::DType::f16;
  const int64_t width = d.one_of<int64_t>({16, 32}), heads = d.one_of<int64_t>({1, 2, 4}), group = d.one_of<int64_t>({1, 2, 4, 8, 8, 16, 3, 7});
  const bool rms = d.coin(), outer = d.coin();
  add_inner_transformer(c, d, backward, {type, width, heads, group, rms, outer, d.offsets(d.whole(0, 5), d.most(150, 40))});
}

}  // namespace simt
