#include "kernels/cpu/step_ops.h"
#include "kernels/cpu/vec_generic.h"
#include "kernels/cpu/vec_values.inl"
#include "kernels/cpu/step_ops.inl"

namespace longer::cpu {

const StepOps& step_ops_generic() {
  static const StepOps ops = {adamw, rmsprop, accumulate, ema, sum_squares, rowwise_adagrad, sparse_adagrad, sparse_adam};
  return ops;
}

}  // namespace longer::cpu
