#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/vec_values.inl"
#include "kernels/cpu/row_ops.inl"

namespace longer::cpu {

const RowOps& row_ops_avx2() {
  static const RowOps ops = {copy, spread, gather, listed_sum, strided_sum, embed, grad_sum, pair_features, pair_features_dx, pair_pool, pair_pool_dx};
  return ops;
}

}  // namespace longer::cpu
