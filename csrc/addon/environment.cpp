#include "addon/environment.h"

#include <algorithm>

#include "addon/job.h"

namespace longer::addon {

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  if (!data) {
    auto created = std::make_unique<Environment>(env);
    const auto destroy = [](napi_env, void* environment, void*) { delete static_cast<Environment*>(environment); };
    if (napi_set_instance_data(env, created.get(), destroy, nullptr) != napi_ok)
      throw Napi::Error::New(env, "the environment is going away");
    napi_add_env_cleanup_hook(env, on_teardown, created.get());
    data = created.release();
  }
  return *static_cast<Environment*>(data);
}

Environment::Environment(napi_env env) : env_(env), shared_(std::make_shared<Shared>()) {
  // The function and this object are destroyed in an order that node does not promise: both hold the shared part.
  auto* keep = new std::shared_ptr<Shared>(shared_);
  const Napi::String name = Napi::String::New(env, "longer run");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, keep, on_closed, this, on_wake, &shared_->function) != napi_ok) {
    delete keep;
    throw Napi::Error::New(env, "cannot create a thread-safe function");
  }
  set_referenced(false);
}

void Environment::set_referenced(bool referenced) {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  if (!shared_->function) return;
  if (referenced) napi_ref_threadsafe_function(env_, shared_->function);
  else napi_unref_threadsafe_function(env_, shared_->function);
}

void Environment::start(Job* job) {
  jobs_.push_back(job);
  if (jobs_.size() == 1) set_referenced(true);  // the process stays alive while something runs
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    ++shared_->running;
  }
  job->post();
}

void Environment::finished(Job* job) {
  const std::shared_ptr<Shared> shared = shared_;  // this object may go as soon as nothing runs
  std::lock_guard<std::mutex> lock(shared->mutex);
  shared->done.push_back(job);
  --shared->running;
  if (shared->function) napi_call_threadsafe_function(shared->function, nullptr, napi_tsfn_nonblocking);
  shared->changed.notify_all();
}

void Environment::on_wake(napi_env env, napi_value, void* context, void*) {
  if (env) static_cast<Environment*>(context)->settle_done(env);  // null while the environment is torn down
}

void Environment::settle_done(napi_env env) {
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    taken_.swap(shared_->done);
  }
  for (Job* job : taken_) {
    job->settle(env);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), job));
    delete job;
  }
  if (!taken_.empty() && jobs_.empty()) set_referenced(false);
  taken_.clear();
}

void Environment::on_closed(napi_env, void* data, void*) {
  auto* keep = static_cast<std::shared_ptr<Shared>*>(data);
  {
    std::lock_guard<std::mutex> lock((*keep)->mutex);
    (*keep)->function = nullptr;
  }
  delete keep;
}

void Environment::on_teardown(void* data) {
  auto* self = static_cast<Environment*>(data);
  for (Job* job : self->jobs_) job->cancel();
  {
    std::unique_lock<std::mutex> lock(self->shared_->mutex);
    self->shared_->changed.wait(lock, [&] { return self->shared_->running == 0; });
    self->shared_->done.clear();
  }
  for (Job* job : self->jobs_) delete job;
  self->jobs_.clear();
}

}  // namespace longer::addon
