// Rows in int8: random cases of writing them. What attention makes of keys in pages, and of such in int8.
#pragma once
#include <string>

#include "kernels/rows_kernels.h"
#include "simt/attention_cases.h"
#include "simt/rows_cases.h"

namespace simt {

inline void write_quantised_rows(OpCase& c, Dice& d) {
  const Heads h = any_heads(d).quantisable();
  const std::vector<int32_t> places = any_places(d);
  const int64_t rows = static_cast<int64_t>(places.size());
  std::vector<double> x = d.numbers(rows * h.width(), -3, 3);
  for (int64_t i = 0; i < rows * h.heads; ++i) {
    const auto head = x.begin() + i * h.head_width;
    const double bad = d.one_of<double>({INFINITY, -INFINITY, NAN});
    switch (d.whole(0, 5)) {
      case 0: std::fill_n(head, h.head_width, d.one_of({0.0, -0.0, 1e-31})); break;
      case 1:  // halves between two whole numbers, up to the largest
        for (int64_t k = 0; k < h.head_width; ++k) head[k] = static_cast<double>(d.whole(-127, 126)) + 0.5;
        head[d.whole(0, h.head_width - 1)] = d.one_of({127.0, -127.0, 127.5});
        break;
      case 2: head[d.whole(0, h.head_width - 1)] = bad; break;
      default: break;
    }
  }
  c.in(places).in(h.type, {rows, h.width()}, x);
  c.in_place(longer::DType::i32, {701, longer::quantised_words(h.width(), h.heads)}, -100, 100).attributes({static_cast<double>(h.heads)});
}

// Where keys lie does not matter: the bits of attention over keys in order are those over the same keys in pages.
inline void pages_alike(longer::Device& device, longer::DType type, int64_t page_rows) {
  constexpr int64_t kRows = 70, kKeys = 150, kFirst = 7, kWidth = 64, kPages = 200;
  Dice dice(3);
  const int64_t listed = (kFirst + kKeys + page_rows - 1) / page_rows;
  const std::vector<double> q = dice.numbers(kRows * kWidth, -2, 2);
  std::vector<double> keys[2], pools[2];
  std::vector<int32_t> tables[2], limits = dice.whole_list(kRows, 0, kKeys);
  for (int i = 0; i < 2; ++i) {
    keys[i] = dice.numbers(kKeys * kWidth, -2, 2);
    pools[i] = dice.numbers(kPages * page_rows * kWidth, -2, 2);
    for (int64_t p = 0; p < listed; ++p) tables[i].push_back(static_cast<int32_t>((p * 37 + i) % kPages));
    for (int64_t k = 0; k < kKeys; ++k) {
      const int64_t at = kFirst + k, row = tables[i][at / page_rows] * page_rows + at % page_rows;
      std::copy_n(keys[i].begin() + k * kWidth, kWidth, pools[i].begin() + row * kWidth);
    }
  }
  OpCase plain("attention", longer::reference::attention, 1), paged("paged_attention", longer::reference::paged_attention, 1);
  for (OpCase* c : {&plain, &paged}) {
    const bool in_pages = c == &paged;
    c->in(type, {kRows, kWidth}, q);
    for (int i = 0; i < 2; ++i) c->in(type, {in_pages ? kPages * page_rows : kKeys, kWidth}, in_pages ? pools[i] : keys[i]);
    if (in_pages) c->in(tables[0]).in(tables[1]).in({0, kRows}).in(longer::DType::i32, {1, 2}, {kFirst, kKeys}).in(limits);
    else c->in({0, kRows}).in({0, kKeys}).in(limits);
    c->out(type, {kRows, kWidth}).out(longer::DType::f32, {kRows, 2}).attributes(in_pages ? std::vector<double>{2, 0.25, static_cast<double>(page_rows)} : std::vector<double>{2, 0.25});
    c->run_device(device);
  }
  expect(plain.result(0) == paged.result(0) && plain.result(1) == paged.result(1), "pages of " + std::to_string(page_rows) + " rows change the bits of attention");
}

// Attention over rows in int8 has the bits of attention over the numbers that they stand for, rounded to the type of q.
inline void int8_alike(longer::Device& device, bool candidates, const Heads& h, bool tf32) {
  constexpr int64_t kRows = 70, kPageRows = 16, kPages = 12, kAll = kPages * kPageRows;
  Dice d(21);
  std::vector<double> words[2], numbers[2];
  for (int i = 0; i < 2; ++i)
    for (int64_t r = 0; r < kAll; ++r) {
      std::vector<float> scales;
      for (int64_t g = 0; g < h.heads; ++g) scales.push_back(static_cast<float>(d.number(0, 0.03)));
      std::string bytes;
      for (int64_t k = 0; k < h.width(); ++k) bytes.push_back(static_cast<char>(d.whole(-127, 127)));
      for (const float s : scales) words[i].push_back(static_cast<double>(static_cast<int32_t>(__float_as_uint(s))));
      for (int64_t w = 0; w < h.width() / 4; ++w) {
        int32_t word;
        std::memcpy(&word, bytes.data() + 4 * w, 4);
        words[i].push_back(word);
      }
      for (int64_t k = 0; k < h.width(); ++k)
        numbers[i].push_back(rounded(scales[static_cast<size_t>(k / h.head_width)] * static_cast<float>(static_cast<signed char>(bytes[static_cast<size_t>(k)])), h.type));
    }
  const std::vector<double> of_rows = d.numbers(kRows * h.width(), -2, 2);
  const std::vector<int32_t> tables[2] = {{3, 1, 4, 10, 5, 9, 2, 6, 0}, {8, 7, 0, 3, 11, 2, 5, 1, 10}}, limits = d.whole_list(kRows, 0, 140);
  std::vector<std::vector<double>> results[2];
  for (const bool quantised : {false, true}) {
    OpCase c(candidates ? "paged_candidate_attention" : "paged_attention", candidates ? longer::reference::paged_candidate_attention : longer::reference::paged_attention, 1);
    for (int i = 0; i < (candidates ? 3 : 1); ++i) c.in(h.type, {kRows, h.width()}, of_rows);
    for (int i = 0; i < 2; ++i)
      quantised ? c.in(longer::DType::i32, {kAll, longer::quantised_words(h.width(), h.heads)}, words[i]) : c.in(h.type, {kAll, h.width()}, numbers[i]);
    c.in(tables[0]).in(tables[1]).in(candidates ? std::vector<int32_t>{0, 20, 35} : std::vector<int32_t>{0, 41, 70}).in(longer::DType::i32, {2, 2}, {5, 130, 40, 70});
    if (!candidates) c.in(limits);
    c.out(h.type, {kRows, h.width()}).out(longer::DType::f32, {kRows, h.heads});
    std::vector<double> attributes{static_cast<double>(h.heads), h.scale()};
    if (candidates) attributes.push_back(2);
    attributes.push_back(kPageRows);
    c.attributes(attributes);
    if (tf32) c.tf32();
    c.run_device(device);
    for (int i = 0; i < 2; ++i) results[quantised].push_back(c.result(i));
  }
  expect(results[0] == results[1], std::string(candidates ? "paged_candidate_attention" : "paged_attention") + " over int8 differs from that over the numbers, heads of " + std::to_string(h.head_width));
}

inline void int8_alike(longer::Device& device) {
  for (const bool candidates : {false, true})
    for (const longer::DType type : {longer::DType::f32, longer::DType::bf16, longer::DType::f16})
      for (const Heads& h : {Heads{type, 4, 5}, Heads{type, 2, 32}, Heads{type, 1, 64}, Heads{type, 2, 128}})
        for (const bool tf32 : {false, true})
          if (!tf32 || type == longer::DType::f32) int8_alike(device, candidates, h, tf32);
}

}  // namespace simt
