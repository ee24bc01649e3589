// Does the emulator find mistakes in the kernels of inner_transformer? Each mutant of inner_mutants.cmake is the real ones with one. A case has
// requests that begin and end within a group, one without events and one with a single one, two blocks and two rounds of each.
#include "kernels/attention_kernels.h"
#include "simt/attention_cases.h"
#include "simt/mutant_case.h"
#include "simt/planted.h"

using namespace longer;

namespace {

bool run(const std::string& name, bool backward) {
  const simt::Mutant& mutant = simt::mutant_called(name);
  simt::OpCase c(backward ? "inner_transformer_dx" : "inner_transformer", backward ? reference::inner_transformer_dx : reference::inner_transformer, 1);
  simt::Dice dice(5);
  simt::add_inner_transformer(c, dice, backward, {DType::bf16, 32, 2, 8, false, true, {0, 101, 101, 102, 130, 299}});
  return simt::right(c, backward ? mutant.backward : mutant.forward, DType::bf16, backward ? 8 : 3);
}

simt::Planted planted(const char* description, const char* name, bool backward, int caught_in) {
  return {description, [=] { return run(name, backward); }, caught_in};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace simt;
  if (mutants().empty()) return report("planted_inner_test " SIMT_TIER ", whose mutants are of the other tiers");
  const std::vector<Planted> list = {
      planted("nothing (forward)", "inner_nothing", false, 0),
      planted("nothing (backward)", "inner_nothing", true, 0),
      planted("forward: groups see those before", "inner_wrong_mask", false, every),
      planted("forward: rows that are no events are seen", "inner_sees_no_events", false, every),
      planted("forward: events of the request before", "inner_rows_of_another_request", false, every),
      planted("forward: two columns of the next head", "inner_head_of_its_neighbour", false, every),
      planted("forward: no barrier after the parameters are loaded", "inner_weights_not_awaited", false, every),
      planted("backward: rows of other warps not waited for", "inner_rows_not_awaited", true, every),
      planted("backward: hidden units not waited for", "inner_units_not_awaited", true, every),
      planted("backward: attention over tiles in use", "inner_tiles_in_use", true, every),
      planted("backward: attention's rows not waited for", "inner_attention_rows_not_awaited", true, every),
      planted("backward: the next round over tiles in use", "inner_next_round_too_early", true, every),
      planted("backward: probabilities not waited for", "inner_probabilities_not_awaited", true, every),
      planted("backward: q, k, v written over before all have read", "inner_written_over_too_early", true, tsan),
      planted("backward: the next head before gradients are there", "inner_next_head_too_early", true, tsan),
      planted("backward: another factor in the norm's place", "inner_stale_factor", true, every),
      planted("backward: hidden units of the first tile alone", "inner_units_of_the_first_tile", true, every),
      planted("backward: the first block's part lost", "inner_lost_part", true, every),
      planted("backward: the first warp's sums lost", "inner_lost_warp", true, every),
      planted("backward: sums of other warps not waited for", "inner_vectors_not_awaited", true, every),
  };
  expect(list.size() == mutants().size() + 1, "mutants and the list of planted bugs differ");  // nothing twice
  return report_planted("planted_inner_test " SIMT_TIER, list, argc > 1 ? argv[1] : "");
}
