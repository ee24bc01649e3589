// Exceptions of the library become JavaScript errors with a code.
#pragma once
#include <napi.h>

#include <new>

#include "runtime/error.h"

namespace longer::addon {

template <class E = Napi::Error>
E coded_error(Napi::Env env, const char* code, const char* message) {
  E error = E::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

template <Napi::Value (*Body)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  try {
    return Body(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& error) {
    if (std::string(error.code()) == "ERR_SHAPE") throw coded_error<Napi::TypeError>(env, error.code(), error.what());
    throw coded_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw coded_error(env, "ERR_MEMORY", "out of memory");
  } catch (const std::exception& error) {
    throw coded_error(env, "ERR_NATIVE", error.what());
  }
}

}  // namespace longer::addon
