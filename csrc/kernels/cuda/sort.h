// A stable sort of numbers by keys on the device, ascending; equal keys keep their order, so the result is one only.
#pragma once
#include <cstdint>

#include "runtime/device.h"

namespace longer::cuda {

struct KeyedNumbers {
  uint32_t *keys, *numbers;
};

int64_t sort_bytes(int64_t count);  // of the memory that sort() works in

// Sorts by the lowest `bits` bits of the keys. `given` is overwritten; the result is one of `given` and a place in `memory`.
KeyedNumbers sort(Stream stream, KeyedNumbers given, int64_t count, int bits, void* memory);

}  // namespace longer::cuda
