// Which kernel multiplies: mma.sync (gemm.cuh), which takes everything, or wgmma and TMA (wgmma_gemm.cuh).
#pragma once
#include <cstdint>
#include <limits>

#include "kernels/cuda/gpu.h"
#include "runtime/tensor.h"

namespace longer::cuda {

enum class ProductKernel { mma, wgmma };

struct ProductOf {
  DType a;                        // of the operand that says what is multiplied; the other is rounded to it before, where it is f32
  int64_t rows, columns, depth;   // d is rows x columns
  int64_t narrowest, pitches[3];  // the least of columns, depth (and rows, where they are a width); widths of a, b and d, in elements
};

// By shapes, types and the GPU, and never by the number of rows of activations: a row has the same bits alone and among others.
inline ProductKernel product_kernel(const ProductOf& p, const Gpu& gpu) {
  constexpr int64_t kLeast = 32, kMost = std::numeric_limits<int32_t>::max() - 256;  // coordinates of TMA are 32 bits
  bool fits = gpu.wgmma && (p.a == DType::bf16 || p.a == DType::f16) && p.narrowest >= kLeast && p.rows <= kMost && p.columns <= kMost && p.depth <= kMost;
  for (const int64_t pitch : p.pitches) fits = fits && pitch % 8 == 0;  // 16 bytes, which TMA and the packs of a result need
  return fits ? ProductKernel::wgmma : ProductKernel::mma;
}

// The width of a tile of d: the widest whose padding costs little.
inline int wgmma_columns(int64_t columns) {
  const auto padded = [columns](int64_t width) { return (columns + width - 1) / width * width; };
  return columns <= 64 ? 64 : columns > 128 && padded(256) * 8 <= padded(128) * 9 ? 256 : 128;
}

}  // namespace longer::cuda
