#include "addon/job.h"

#include <cstring>
#include <new>
#include <utility>

#include "runtime/error.h"

namespace longer::addon {

namespace {
// Plain Node-API calls whose failure is ignored: where JavaScript may not run any more there is nobody to tell.
void set(napi_env env, napi_value object, const char* key, napi_value value) {
  if (value) napi_set_named_property(env, object, key, value);
}

napi_value number(napi_env env, double value) {
  napi_value result = nullptr;
  napi_create_double(env, value, &result);
  return result;
}

napi_value text(napi_env env, const std::string& value) {
  napi_value result = nullptr;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value doubles(napi_env env, const std::vector<double>& values) {
  void* data = nullptr;
  napi_value buffer = nullptr, result = nullptr;
  if (napi_create_arraybuffer(env, values.size() * sizeof(double), &data, &buffer) != napi_ok) return nullptr;
  if (!values.empty()) std::memcpy(data, values.data(), values.size() * sizeof(double));
  napi_create_typedarray(env, napi_float64_array, values.size(), buffer, 0, &result);
  return result;
}
}  // namespace

Job::Job(Environment& environment, std::shared_ptr<PlanBox> plan, std::unique_ptr<RunRequest> request, Napi::Array arrays)
    : environment_(environment), plan_(std::move(plan)), request_(std::move(request)), env_(arrays.Env()) {
  if (napi_create_reference(env_, arrays, 1, &arrays_) != napi_ok) throw Napi::Error::New(env_);
  plan_->executor.state().begin_run(plan_->executor.graph().writes_state());
}

Job::~Job() {
  plan_->executor.state().end_run(plan_->executor.graph().writes_state());
  if (arrays_) napi_delete_reference(env_, arrays_);
  request_->inputs.clear();  // cancel() may hold the request for long, and not the memory
  request_->outputs.clear();
}

Napi::Value Job::start(Napi::Env env, std::unique_ptr<Job> job, double here_below) {
  Napi::Object result = Napi::Object::New(env);
  const bool over = job->run_here(here_below);
  if (over && job->error_code_.empty()) {
    job->plan_->runtime->bytes.report(job->plan_->runtime->runtime->arena().capacity());
    result.Set("result", Napi::Value(env, job->result(env)));
    return result;
  }
  napi_value promise;
  if (napi_create_promise(env, &job->deferred_, &promise) != napi_ok) throw Napi::Error::New(env);
  result.Set("promise", Napi::Value(env, promise));
  if (over) {
    job->settle(env);
    return result;
  }
  result.Set("cancel", Napi::Function::New(env, [request = job->request_](const Napi::CallbackInfo& info) {
               request->cancelled.store(true, std::memory_order_relaxed);
               return info.Env().Undefined();
             }, "cancel"));
  Job* started = job.release();
  started->environment_.start(started);
  return result;
}

bool Job::run_here(double below) {
  Runtime& runtime = *plan_->runtime->runtime;
  if (!(below > 0) || plan_->executor.graph().writes_state() || !runtime.try_enter()) return false;
  here_ = plan_->executor.is_short(*request_, below);
  if (here_) compute();
  runtime.leave();
  return here_;
}

void Job::run(Runtime&) noexcept {
  compute();
  environment_.finished(this);
}

void Job::prepare(Task& running) noexcept {
  if (const auto* other = dynamic_cast<Job*>(&running)) plan_->executor.prepare(*request_, *other->request_);
}

void Job::compute() noexcept {
  try {
    plan_->executor.run(*request_, outcome_);
  } catch (const Error& error) {
    error_ = error.what();
    error_code_ = error.code();
  } catch (const std::bad_alloc&) {
    error_ = "out of memory";
    error_code_ = "ERR_MEMORY";
  } catch (const std::exception& error) {
    error_ = error.what();
    error_code_ = "ERR_KERNEL";
  } catch (...) {
    error_ = "unknown failure";
    error_code_ = "ERR_KERNEL";
  }
}

napi_value Job::result(napi_env env) const {
  napi_value value = nullptr, cancelled = nullptr, here = nullptr;
  if (napi_create_object(env, &value) != napi_ok) return nullptr;
  napi_get_boolean(env, outcome_.cancelled, &cancelled);
  napi_get_boolean(env, here_, &here);
  set(env, value, "elapsed", number(env, outcome_.elapsed));
  set(env, value, "cancelled", cancelled);
  set(env, value, "here", here);
  if (request_->profile) set(env, value, "times", doubles(env, outcome_.times));
  set(env, value, "firstNonFinite", number(env, outcome_.first_non_finite));
  return value;
}

void Job::settle(napi_env env) {
  plan_->runtime->bytes.report(plan_->runtime->runtime->arena().capacity());
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value value = nullptr;
  if (!error_code_.empty()) {
    if (napi_create_error(env, text(env, error_code_), text(env, error_), &value) == napi_ok) napi_reject_deferred(env, deferred_, value);
  } else if ((value = result(env))) {
    napi_resolve_deferred(env, deferred_, value);
  }
  napi_close_handle_scope(env, scope);
}

}  // namespace longer::addon
