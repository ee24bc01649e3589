// Does the emulator find mistakes in the product on Hopper? Each mutant of product_mutants.cmake is the real kernel with one. A case has
// tails of rows, columns and depth, more tiles than there are blocks, and more slabs than the ring has stages.
#include "kernels/dense_kernels.h"
#include "simt/mutant_case.h"
#include "simt/planted.h"

using namespace longer;

namespace {

bool run(const std::string& name) {
  simt::OpCase c("linear", reference::linear, 1);
  c.in(DType::bf16, {300, 200}, -1, 1).in(DType::bf16, {200, 104}, -1, 1).in(DType::f32, {104}, -1, 1).in(DType::bf16, {300, 104}, -1, 1);
  c.out(DType::bf16, {300, 104}).out(DType::bf16, {300, 104}).attributes({1});
  return simt::right(c, simt::mutant_called(name).forward, DType::bf16);
}

simt::Planted planted(const char* description, const char* name, int caught_in) {
  return {description, [=] { return run(name); }, caught_in};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace simt;
  const std::vector<Planted> list = {
      planted("nothing", "product_nothing", 0),
      planted("ring: full stages by the wrong parity", "product_wrong_parity", every),
      planted("ring: stages filled without waiting", "product_no_wait_for_empty", every),
      planted("ring: empty stages by the wrong parity", "product_wrong_parity_of_empty", every),
      planted("ring: the stage in use given back", "product_stage_in_use_given_back", every),
      planted("ring: a stage is empty after two warps", "product_too_few_arrivals", every),
      planted("ring: bytes of one operand expected", "product_short_expect", every),
      planted("ring: no barrier after the barriers are made", "product_no_barrier_after_init", every),
      planted("product: no fence before it", "product_no_fence", every),
      planted("product: never committed", "product_no_commit", every),
      planted("product: stage given back before it is done", "product_given_back_too_early", every),
      planted("product: the last one not waited for", "product_last_not_waited_for", every),
      planted("product: added to the tile before", "product_sums_of_the_last_tile", every),
      planted("product: half a step of depth", "product_wrong_depth_step", every),
      planted("product: another swizzle than TMA's", "product_wrong_swizzle", every),
      planted("product: another distance of rows than TMA's", "product_wrong_atom", every),
      planted("product: both warpgroups the same rows", "product_rows_of_one_group", every),
      planted("end: rows past the last", "product_no_row_mask", asan | tsan),
      planted("end: columns past the last", "product_no_column_mask", every),
      planted("end: staged over what is not read yet", "product_staged_over", every),
      planted("end: read before all have staged", "product_read_before_staged", every),
      planted("end: the residual of the columns before", "product_fetched_late", every),
  };
  expect(list.size() == mutants().size(), "mutants and the list of planted bugs differ");
  return report_planted("planted_product_test " SIMT_TIER, list, argc > 1 ? argv[1] : "");
}
