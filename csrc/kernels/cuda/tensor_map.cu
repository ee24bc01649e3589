#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime.h>
#include <cudaTypedefs.h>

#include <cstring>
#include <string>

#include "runtime/error.h"

namespace longer {

TensorMap tensor_map_2d(const void* matrix, int64_t rows, int64_t cols, int64_t pitch, int box_rows, int box_cols, Swizzle swizzle) {
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap), "a tensor map is 128 bytes");
  // The driver's function by its entry point: the addon must load where no driver is.
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found) != cudaSuccess) function = nullptr;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  if (!encode) throw Error("ERR_DEVICE", "the NVIDIA driver has no cuTensorMapEncodeTiled; r580 or newer is needed");
  const CUtensorMapSwizzle codes[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)}, strides[] = {static_cast<cuuint64_t>(pitch)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  CUtensorMap made;
  const CUresult result = encode(&made, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<void*>(matrix), sizes, strides, box, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, codes[static_cast<int>(swizzle)], CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error("ERR_DEVICE", "the driver refuses a tensor map of " + std::to_string(rows) + " x " + std::to_string(cols) + " with boxes of " +
                std::to_string(box_rows) + " x " + std::to_string(box_cols) + " (code " + std::to_string(result) + ")");
  TensorMap map;
  std::memcpy(&map, &made, sizeof map);
  return map;
}

}  // namespace longer
