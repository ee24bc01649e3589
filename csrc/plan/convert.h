// Copies between element types: f32, bf16 and f64 into each other, i32 into i32.
#pragma once
#include <cstdint>

#include "runtime/tensor.h"

namespace longer {

bool convertible(DType from, DType to);
// bf16 rounds to nearest even.
void convert(const void* from, DType from_type, void* to, DType to_type, int64_t count);

// Every number to the nearest bf16, in place.
void round_to_bf16(double* data, int64_t count);

}  // namespace longer
