#include "kernels/rows_kernels.h"

namespace longer {

OpList rows_ops() {
  static const Op ops[] = {
      {"gather_rows", reference::gather_rows, cpu::gather_rows, nullptr},
      {"gather_rows_dx", reference::gather_rows_dx, cpu::gather_rows_dx, cpu::gather_rows_dx_workspace},
      {"write_rows", reference::write_rows, cpu::write_rows, nullptr, nullptr, true},
      {"write_quantised_rows", reference::write_quantised_rows, cpu::write_quantised_rows, nullptr, nullptr, true},
      {"merge", reference::merge, cpu::merge, nullptr},
      {"merge_dx", reference::merge_dx, cpu::merge_dx, nullptr},
      {"segment_pool", reference::segment_pool, cpu::segment_pool, nullptr},
      {"segment_pool_dx", reference::segment_pool_dx, cpu::segment_pool_dx, nullptr},
      {"concat", reference::concat, cpu::concat, nullptr},
      {"concat_dx", reference::concat_dx, cpu::concat_dx, nullptr},
      {"pair_features", reference::pair_features, cpu::pair_features, nullptr},
      {"pair_features_dx", reference::pair_features_dx, cpu::pair_features_dx, cpu::pair_features_dx_workspace},
      {"pair_pool", reference::pair_pool, cpu::pair_pool, nullptr},
      {"pair_pool_dx", reference::pair_pool_dx, cpu::pair_pool_dx, cpu::pair_pool_dx_workspace},
  };
  return {ops, static_cast<int>(sizeof ops / sizeof ops[0])};
}

}  // namespace longer
