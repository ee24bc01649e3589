// Element-wise and row-wise loops, one table of functions an instruction set. A range is [begin, end).
#pragma once
#include <cstdint>

#include "kernels/activation_kind.h"
#include "kernels/cpu/values.h"

namespace longer::cpu {

struct NormRows {
  Values x, y;
  const float* gamma;
  const float* beta;  // null: none
  float* mean;        // null: not stored
  float* rstd;        // null: not stored
  bool rms;
  float eps;
  int64_t width;
};

struct NormDxRows {
  Values x, dy, add, dx;
  const float* gamma;
  const float* mean;  // null for RMS norm
  const float* rstd;
  int64_t width;
};

struct DropoutRange {
  Values x, y;
  uint32_t key[2], stream[2], threshold;
  float factor;
  uint64_t first;  // number of element 0 among the random numbers
};

struct VectorOps {
  void (*activation)(Activation kind, Values x, Values y, int64_t begin, int64_t end);
  void (*activation_dx)(Activation kind, Values x, Values dy, Values dx, int64_t begin, int64_t end);
  void (*add)(const Values* terms, int count, Values y, int64_t begin, int64_t end);
  void (*swiglu)(Values a, Values y, int64_t hidden, int64_t row_begin, int64_t row_end);
  void (*swiglu_dx)(Values a, Values dy, Values da, int64_t hidden, int64_t row_begin, int64_t row_end);
  void (*gate)(Values x, Values g, Values y, int64_t begin, int64_t end);
  void (*gate_dx)(Values x, Values g, Values dy, Values dx, Values dg, int64_t begin, int64_t end);
  void (*cast)(Values x, Values y, int64_t begin, int64_t end);
  void (*dropout)(const DropoutRange&, int64_t begin, int64_t end);  // begin a multiple of 64
  void (*norm)(const NormRows&, int64_t row_begin, int64_t row_end);
  // Adds to dgamma and dbeta, rows ascending.
  void (*norm_dx)(const NormDxRows&, float* dgamma, float* dbeta, int64_t row_begin, int64_t row_end);
};

const VectorOps& vector_ops_generic();
const VectorOps& vector_ops_avx2();
const VectorOps& vector_ops_avx512();
const VectorOps& vector_ops();  // of the active instruction set

constexpr int64_t kRangeTask = 16384;  // elements a task

}  // namespace longer::cpu
