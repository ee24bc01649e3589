// Does the emulator find mistakes in the attention kernels? Each mutant of attention_mutants.cmake is the real kernel with one.
// A case is candidate_attention, whose rows see tiles of shared keys and then their own; the second request has no shared ones.
#include "kernels/attention_kernels.h"
#include "simt/dice.h"
#include "simt/mutant_case.h"
#include "simt/planted.h"

using namespace longer;
using simt::OpCase;

namespace {

constexpr int64_t kCandidates = 55, kRowsEach = 2, kRows = kCandidates * kRowsEach, kKeys = 230, kWidth = 32;

// `of_rows`, `of_keys`: matrices that the case begins with.
void add_inputs(OpCase& c, DType type, const std::vector<double> (&of_rows)[3], const std::vector<double> (&of_keys)[2]) {
  for (const auto& values : of_rows) c.in(type, {kRows, kWidth}, values);
  for (const auto& values : of_keys) c.in(type, {kKeys, kWidth}, values);
}

bool run(const std::string& name, bool backward) {
  const DType type = name.find("f32") != std::string::npos || name.find("unordered") != std::string::npos ? DType::f32 : DType::bf16;
  const simt::Mutant& mutant = simt::mutant_called(name);
  simt::Dice dice(11);
  std::vector<double> of_rows[3], of_keys[2];
  for (auto& values : of_rows) values = dice.numbers(kRows * kWidth, -2, 2);
  for (auto& values : of_keys) values = dice.numbers(kKeys * kWidth, -2, 2);
  const std::vector<double> attributes{1, 0.25, kRowsEach};
  OpCase forward("candidate_attention", reference::candidate_attention, 1);
  add_inputs(forward, type, of_rows, of_keys);
  forward.in({0, 37, kCandidates}).in({0, kKeys, kKeys}).out(type, {kRows, kWidth}).out(DType::f32, {kRows, 1}).attributes(attributes);
  if (!backward) return simt::right(forward, mutant.forward, type);
  forward.run_reference();
  OpCase c("candidate_attention_dx", reference::candidate_attention_dx, 1);
  add_inputs(c, type, of_rows, of_keys);
  c.in(type, {kRows, kWidth}, forward.exact_out(0)).in(DType::f32, {kRows, 1}, forward.exact_out(1)).in(type, {kRows, kWidth}, -1, 1);
  c.in({0, 37, kCandidates}).in({0, kKeys, kKeys}).attributes(attributes);
  for (int i = 0; i < 5; ++i) c.out(type, {i < 3 ? kRows : kKeys, kWidth});
  return simt::right(c, mutant.backward, type);
}

simt::Planted planted(const char* description, const char* name, bool backward, int caught_in) {
  return {description, [=] { return run(name, backward); }, caught_in};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace simt;
  const std::vector<Planted> list = {
      planted("nothing (forward, bf16)", "nothing_bf16", false, 0),
      planted("nothing (backward, bf16)", "nothing_bf16", true, 0),
      planted("nothing (backward, f32)", "nothing_f32", true, 0),
      planted("forward: mask with one key too many", "forward_wrong_mask", false, every),
      planted("forward: copy of a tile never waited for", "forward_no_wait", false, every),
      planted("forward: no barrier after the wait", "forward_no_barrier", false, every),
      planted("forward: no barrier before a candidate's own keys", "forward_no_barrier_between_parts", false, every),
      planted("forward: the first tile in place of the next", "forward_stale_tile", false, every),
      planted("forward: lse of another base", "forward_wrong_lse", false, every),
      planted("forward: stored before all have put their rows", "forward_no_barrier_before_store", false, every),
      planted("backward: mask one key off", "backward_wrong_mask", true, every),
      planted("backward: copy of a tile never waited for", "backward_no_wait", true, every),
      planted("backward: no barrier after the wait", "backward_no_barrier", true, every),
      planted("backward: a tile loaded over the one in use", "backward_stale_tile", true, every),
      planted("backward: lse of another base", "backward_wrong_lse", true, every),
      planted("backward: dq added up in the order of the blocks", "backward_unordered_sum", true, every),
  };
  expect(list.size() == mutants().size() + 1, "mutants and the list of planted bugs differ");  // nothing_bf16 twice
  return report_planted("planted_attention_test " SIMT_TIER, list, argc > 1 ? argv[1] : "");
}
