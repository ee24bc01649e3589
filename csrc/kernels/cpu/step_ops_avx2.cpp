#include "kernels/cpu/step_ops.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/vec_values.inl"
#include "kernels/cpu/step_ops.inl"

namespace longer::cpu {

const StepOps& step_ops_avx2() {
  static const StepOps ops = {adamw, rmsprop, accumulate, ema, sum_squares, rowwise_adagrad, sparse_adagrad, sparse_adam};
  return ops;
}

}  // namespace longer::cpu
