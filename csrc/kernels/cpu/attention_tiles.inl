// The body of attention_tiles_<isa>.cpp. The including file defines, in an unnamed namespace, the type Vec with
// kLanes lanes, kMaxVectors (accumulators a row that fit the registers) and the functions used below; a vec_<isa>.h has
// most of them.
#include "kernels/cpu/attention_pack.inl"
#include "kernels/cpu/attention_products.inl"
#include "kernels/cpu/attention_forward.inl"
#include "kernels/cpu/attention_backward.inl"
#include "kernels/cpu/group_tiles.inl"

namespace {

template <class Words>
constexpr longer::cpu::AttentionTiles tiles_of() {
  return {
      Words::kGroup, pack, widen_row, Words::pack_words, Words::pack_summed, unpack, unpack_add, transpose_tile, forward_start, forward_keys<Words>,
      forward_own, forward_finish, row_dots, backward_keys<Words>, backward_own, group_forward, group_backward,
  };
}

}  // namespace
