// Matrix products, one table of functions an instruction set.
//
// Operands are read as words of 4 bytes: an f32, or a pair of bf16 that are neighbours in the reduction. An element of
// a product is one chain of multiply-adds over its words, ascending from zero, whatever tile it falls into.
#pragma once
#include <cstdint>

#include "kernels/activation_kind.h"
#include "kernels/cpu/values.h"

namespace longer::cpu {

// What becomes of a product, element by element, before it is stored. All matrices have `cols` columns.
//   forward:  v = product + bias; store v to pre; out = act(v) + residual
//   backward: out = product * act'(pre) + residual
struct GemmFinish {
  const float* bias = nullptr;
  Values pre;
  Values residual;
  Values out;
  Activation activation = Activation::none;
  bool backward = false;
};

// rows x cols = a (rows x words) * b. Row 0 and column 0 of the block are at (row, col) of the matrices of finish.
struct GemmBlock {
  int64_t rows, words, cols;  // cols counts from col
  const float* a;
  int64_t a_stride;           // words from row to row
  const float* b;             // panels; small() has none
  GemmFinish finish;
  int64_t row, col, finish_cols;
  bool far;  // more than the second-level cache holds: what is needed next is asked for ahead
};

// A matrix whose element (k, c) of the reduction and the column is at k * stride + c, or at c * stride + k if transposed.
struct GemmSource {
  Values from;  // begins at (0, 0)
  int64_t stride, inner, cols;
  bool transposed;
  bool rounded;  // f32 elements are rounded to bf16 first
};

// c += a b, where a and b are read a reduction word at a time. Both lie in panels of `lanes` columns: word k of panel p
// is at p * panel + k * step. c is row-major with columns padded to whole panels.
struct GemmSum {
  int64_t rows, words, cols;  // columns of a, reduction, columns of b
  const float* a;
  int64_t a_panel, a_step;
  const float* b;
  int64_t b_panel, b_step;
  float* c;
  int64_t c_stride;
  bool first;  // c = a b
};

struct GemmKernel {
  int64_t group;       // elements a word
  int64_t row_tile;    // rows in registers
  int64_t panel;       // columns in registers
  int64_t lanes;       // columns a panel of sum()
  int64_t small_rows;  // rows that small() is meant for
  int64_t small_cols;  // columns that it takes at a time

  // panels: [columns / panel][words][panel], zero-padded
  void (*pack)(const GemmSource&, float* panels);
  // Rows of words with a stride: widened or copied, the last word zero-padded.
  void (*stage)(Values from, int64_t from_stride, int64_t rows, int64_t inner, float* to, int64_t to_stride);
  void (*multiply)(const GemmBlock&);
  void (*small)(const GemmBlock&, const GemmSource&);  // for few rows: b is read where it stands; not transposed
  // Words of rows, in panels for sum(), zero-padded. Adds the rows to sums[cols padded to panels] unless that is null.
  // pack_left is for GemmSum::a, pack_sum for b.
  void (*pack_left)(Values from, int64_t stride, int64_t rows, int64_t cols, float* to, int64_t panel, float* sums);
  void (*pack_sum)(Values from, int64_t stride, int64_t rows, int64_t cols, float* to, int64_t panel, float* sums);
  void (*sum)(const GemmSum&);
};

const GemmKernel& gemm_generic();
const GemmKernel& gemm_avx2();
const GemmKernel& gemm_avx512();
const GemmKernel& gemm_avx512bf16();
const GemmKernel& gemm_amx();  // of bf16 pairs, as gemm_avx512bf16()

// The kernel for the active instruction set. Only where both operands are bf16, or rounded to it as they are packed, may
// it multiply pairs.
const GemmKernel& gemm_kernel(bool bf16_product);

}  // namespace longer::cpu
