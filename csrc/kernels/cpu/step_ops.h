// Loops of the optimizers and of the gradient norm, one table of functions an instruction set. All f32.
#pragma once
#include <cstdint>

#include "kernels/cpu/values.h"

namespace longer::cpu {

struct DenseStep {
  const float *grad, *decay;  // decay null: no weight decay
  float *param, *first, *second;
  float rate, weight_decay, scale;
  float a, b, eps;            // adamw: beta1, beta2; rmsprop: alpha, momentum
  float a_rest, b_rest;       // 1 - a, 1 - b
  float first_up, second_up;  // adamw: bias corrections
};

struct SparseStep {
  const int32_t* rows;
  const float* grad;
  float *table, *first, *second;
  float rate, scale, eps;
  float beta1, beta2, rest1, rest2;  // rest: 1 - beta
  int64_t width;
};

struct StepOps {
  void (*adamw)(const DenseStep&, int64_t begin, int64_t end);
  void (*rmsprop)(const DenseStep&, int64_t begin, int64_t end);
  void (*accumulate)(Values x, float* y, int64_t begin, int64_t end);
  void (*ema)(Values x, float decay, float* y, int64_t begin, int64_t end);
  double (*sum_squares)(Values x, int64_t begin, int64_t end);
  // Gradient rows [begin, end).
  void (*rowwise_adagrad)(const SparseStep&, int64_t begin, int64_t end);
  void (*sparse_adagrad)(const SparseStep&, int64_t begin, int64_t end);
  // up: the two bias corrections of each of the rows
  void (*sparse_adam)(const SparseStep&, const float* up, int64_t begin, int64_t end);
};

const StepOps& step_ops_generic();
const StepOps& step_ops_avx2();
const StepOps& step_ops_avx512();
const StepOps& step_ops();  // of the active instruction set

}  // namespace longer::cpu
