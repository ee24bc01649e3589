// What the addon tells about itself, the machine and a plan.
#pragma once
#include <napi.h>

#include "plan/executor.h"

namespace longer::addon {

Napi::Value version(const Napi::CallbackInfo& info);
Napi::Value devices(const Napi::CallbackInfo& info);
Napi::Value operations(const Napi::CallbackInfo& info);
Napi::Value memory_report(Napi::Env env, const MemoryPromise& promise);

}  // namespace longer::addon
