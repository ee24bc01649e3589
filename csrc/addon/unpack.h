// From JavaScript values to what the library takes. Throws a TypeError with the name of the bad part.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "plan/executor.h"

namespace longer::addon {

Backend backend_of(const Napi::Value& value);
GraphDescription graph_of(const Napi::Value& spec);
std::vector<StoreDescription> stores_of(const Napi::Value& list);
std::vector<double> sizes_of(const Napi::Value& value);
// The array's memory, borrowed: Float32Array, Float64Array, Int32Array or Uint16Array (the bits of bf16, or of f16 where the value is), at any offset, shared or
// not. A detached one has no elements. `what` names it in errors.
Borrowed array_of(const Napi::Value& value, const std::string& what);
// The same; false where it is no such array.
bool read_array(const Napi::Value& value, Borrowed& array);
// Part of a device's memory: {memory, dtype, offset in bytes, length}; false where it is no object.
bool read_device_array(const Napi::Value& value, Borrowed& array, const std::string& what);

}  // namespace longer::addon
