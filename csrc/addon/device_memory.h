// Memory on the device of a runtime, as JavaScript has it. All of these wait until what they ask for is done.
#pragma once
#include <napi.h>

namespace longer::addon {

Napi::Value create_device_memory(const Napi::CallbackInfo& info);  // (runtime, bytes): zeroed
Napi::Value read_device_memory(const Napi::CallbackInfo& info);    // (memory, offset in bytes, into)
Napi::Value write_device_memory(const Napi::CallbackInfo& info);   // (memory, offset in bytes, from)
Napi::Value copy_device_memory(const Napi::CallbackInfo& info);    // (memory, Float64Array of pairs from, to in bytes; bytes of each)
Napi::Value device_use(const Napi::CallbackInfo& info);            // (runtime)

}  // namespace longer::addon
