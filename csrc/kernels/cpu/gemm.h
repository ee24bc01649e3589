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
  const float* b;             // panels, or for small(): row-major words
  int64_t b_stride;           // small() only
  GemmFinish finish;
  int64_t row, col, finish_cols;
};

// c += a b, where both are read a reduction word at a time; c is row-major with padded columns, a multiple of `panel`.
// Tile t of row_tile rows has the words of k at a + t * a_panel + k * a_step, and so for the panels of b.
struct GemmSum {
  int64_t rows, words, cols;
  const float* a;
  int64_t a_panel, a_step;
  const float* b;
  int64_t b_panel, b_step;
  float* c;
  int64_t c_stride;
  bool first;  // c = a b
};

// A matrix whose element (k, c) of the reduction and the column is at k * stride + c, or at c * stride + k if transposed.
struct GemmSource {
  Values from;  // begins at (0, 0)
  int64_t stride, inner, cols;
  bool transposed;
  bool rounded = false;  // f32 elements are rounded to bf16 first
};

struct GemmKernel {
  int64_t group;      // elements a word
  int64_t row_tile;   // rows in registers
  int64_t panel;      // columns in registers
  int64_t small_rows; // rows that small() takes at most; 0 where there is no small()

  // panels: [columns / width][words][width], zero-padded
  void (*pack)(const GemmSource&, int64_t width, float* panels);
  // Rows of words with a stride: widened or copied, the last word zero-padded.
  void (*stage)(Values from, int64_t from_stride, int64_t rows, int64_t inner, float* to, int64_t to_stride);
  void (*multiply)(const GemmBlock&);
  void (*small)(const GemmBlock&);  // b as it stands, f32
  void (*sum)(const GemmSum&);
  void (*add_rows)(Values from, int64_t stride, int64_t rows, int64_t cols, float* sums);  // column sums, added
};

const GemmKernel& gemm_generic();
const GemmKernel& gemm_avx2();
const GemmKernel& gemm_avx512();
const GemmKernel& gemm_avx512bf16();

// The kernel for the active instruction set. Only where both operands are bf16, or rounded to it as they are packed, may
// it multiply pairs.
const GemmKernel& gemm_kernel(bool bf16_product);

}  // namespace longer::cpu
