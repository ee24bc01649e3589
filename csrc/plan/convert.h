// Copies between element types: f32, bf16, f16 and f64 into each other, i32 into i32.
#pragma once
#include <cstdint>

#include "runtime/tensor.h"

namespace longer {

bool convertible(DType from, DType to);
// bf16 and f16 round to nearest even.
void convert(const void* from, DType from_type, void* to, DType to_type, int64_t count);

// Every number to the nearest one of a type of 16 bits, in place; of another type nothing is done.
void round_to(DType type, double* data, int64_t count);

}  // namespace longer
