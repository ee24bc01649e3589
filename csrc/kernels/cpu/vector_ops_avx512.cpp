#include "kernels/cpu/vector_ops.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"
#include "kernels/cpu/vector_ops.inl"
#include "kernels/cpu/norm_rows.inl"

namespace longer::cpu {

const VectorOps& vector_ops_avx512() {
  static const VectorOps ops = {activation, activation_dx, add_terms, swiglu, swiglu_dx, gate, gate_dx, cast, dropout, norm, norm_dx};
  return ops;
}

}  // namespace longer::cpu
