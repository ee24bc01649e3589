// A matrix in global memory as the tensor memory accelerator sees it, and descriptors of tiles in shared memory.
#pragma once
#include <cstdint>

#include "kernels/host_device.h"

namespace longer {

// Rows of a tile in shared memory are as wide as the swizzle says (16, 32, 64 or 128 bytes); 16-byte chunks of a row are
// exchanged by address bits: bits 4.. of the address are XORed with bits 7.. (1, 2 or 3 of them).
enum class Swizzle : int { none = 0, b32 = 1, b64 = 2, b128 = 3 };

struct alignas(64) TensorMap {
  uint64_t words[16];
};

// rows x cols elements of 2 bytes, `pitch` bytes from row to row (a multiple of 16); a copy moves box_rows x box_cols.
// What lies outside reads as zero and is not written. Throws Error("ERR_DEVICE") where the driver refuses.
TensorMap tensor_map_2d(const void* matrix, int64_t rows, int64_t cols, int64_t pitch, int box_rows, int box_cols, Swizzle swizzle);

// Operand of wgmma at an offset of the shared window. leading and stride in bytes:
//   K contiguous ("K-major")    stride between groups of 8 rows; leading only without swizzle (between 8-column chunks)
//   M or N contiguous (transposed), 128-byte swizzle: leading between 64-element columns of atoms, stride between 8 k's
LONGER_BOTH constexpr uint64_t matrix_descriptor(uint32_t offset, uint32_t leading, uint32_t stride, Swizzle swizzle) {
  const int code = static_cast<int>(swizzle);
  return (uint64_t{offset} >> 4 & 0x3fff) | (uint64_t{leading >> 4} & 0x3fff) << 16 | (uint64_t{stride >> 4} & 0x3fff) << 32 |
         static_cast<uint64_t>(code == 0 ? 0 : 4 - code) << 62;
}

}  // namespace longer
