// Does the emulator find mistakes in what reads and writes rows in int8, and in the probabilities? Each mutant of int8_mutants.cmake is
// the real kernel with one.
#include "kernels/rows_kernels.h"
#include "simt/attention_cases.h"
#include "simt/mutant_case.h"
#include "simt/planted.h"

using namespace longer;
using simt::OpCase;

namespace {

constexpr int64_t kCandidates = 55, kRows = 2 * kCandidates, kPageRows = 16, kPages = 20;

// Two requests, the second without shared keys; the pages of keys and of values in different orders.
bool attention(const std::string& name) {
  simt::Dice d(11);
  const simt::Heads h{DType::bf16, 2, 32};
  std::vector<int32_t> tables[2];
  for (int32_t p = 0; p < 15; ++p) tables[0].push_back(p * 7 % 20), tables[1].push_back(p * 13 % 20);
  OpCase c("paged_candidate_attention", reference::paged_candidate_attention, 1);
  for (int i = 0; i < 3; ++i) c.in(h.type, {kRows, h.width()}, -2, 2);
  for (int i = 0; i < 2; ++i) c.in(DType::i32, {kPages * kPageRows, quantised_words(h.width(), h.heads)}, any_quantised_rows(d, kPages * kPageRows, h));
  c.in(tables[0]).in(tables[1]).in({0, 37, kCandidates}).in(DType::i32, {2, 2}, {3, 230, 0, 0}).out(h.type, {kRows, h.width()}).out(DType::f32, {kRows, h.heads});
  return simt::right(c.attributes({2, 0.25, 2, kPageRows}), simt::mutant_called(name).forward, h.type);
}

// Heads of 40 numbers: halves between two whole numbers, small ones, and one that is none.
bool written(const std::string& name) {
  simt::Dice d(12);
  std::vector<double> x = d.numbers(5 * 80, -3, 3);
  for (int64_t k = 0; k < 40; ++k) x[static_cast<size_t>(k)] = k == 7 ? -127 : static_cast<double>(d.whole(-120, 120)) + 0.5;
  x[130] = INFINITY;
  OpCase c("write_quantised_rows", reference::write_quantised_rows, 1);
  c.in({4, 0, 7, 2, 5}).in(DType::f32, {5, 80}, x).in_place(DType::i32, {8, 22}, -9, 9);
  return simt::right(c.attributes({2}), simt::mutant_called(name).forward, DType::f32);
}

bool probabilities(const std::string& name) {
  OpCase c("candidate_attention_probabilities", reference::candidate_attention_probabilities, 1);
  for (const int64_t rows : {30, 30, 70}) c.in(DType::f32, {rows, 48}, -2, 2);
  c.in({0, 7, 10}).in({0, 70, 70}).out(DType::f32, {30, 75});
  return simt::right(c.attributes({3, 0.25, 3}), simt::mutant_called(name).backward, DType::f32);
}

simt::Planted planted(const char* description, bool (*run)(const std::string&), const char* name, int caught_in) {
  return {description, [=] { return run(name); }, caught_in};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace simt;
  const std::vector<Planted> list = {
      planted("nothing (attention over int8)", attention, "int8_nothing", 0),
      planted("nothing (rows written)", written, "rows_nothing", 0),
      planted("nothing (probabilities)", probabilities, "rows_nothing", 0),
      planted("int8: numbers put into the tile in use", attention, "int8_tile_in_use", every),
      planted("int8: and that before its products", attention, "int8_before_products", every),
      planted("int8: no barrier after the numbers are put", attention, "int8_no_barrier", every),
      planted("int8: own keys taken for ones in pages", attention, "int8_own_keys_from_pages", every),
      planted("int8: the scale of the row beside it", attention, "int8_scale_of_another_row", every),
      planted("int8: numbers without their sign", attention, "int8_without_sign", every),
      planted("write: numbers cut off", written, "write_cut_off", every),
      planted("write: ties away from zero", written, "write_ties_away", every),
      planted("write: the largest of a thread, not of its team", written, "write_largest_of_a_thread", every),
      planted("write: a scale that is infinite", written, "write_infinite_scale", every),
      planted("probabilities: half of the teams left out", probabilities, "probabilities_sum_of_a_team", every),
      planted("probabilities: the last head, not the mean", probabilities, "probabilities_of_the_last_head", every),
      planted("probabilities: own keys first", probabilities, "probabilities_own_keys_first", every),
      planted("probabilities: a column left as it was", probabilities, "probabilities_left_behind", every),
  };
  expect(list.size() == mutants().size() + 1, "mutants and the list of planted bugs differ");  // rows_nothing twice
  return report_planted("planted_int8_test " SIMT_TIER, list, argc > 1 ? argv[1] : "");
}
