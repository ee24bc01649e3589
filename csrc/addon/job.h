// One run: made on the JavaScript thread, run there or on the runtime's, settled and destroyed on the first again.
#pragma once
#include <napi.h>

#include <atomic>
#include <memory>
#include <string>

#include "addon/environment.h"
#include "addon/handles.h"

namespace longer::addon {

class Job final : public Task {
 public:
  // `arrays`: what the request borrows, kept from the collector until the job is destroyed.
  Job(Environment& environment, std::shared_ptr<PlanBox> plan, std::unique_ptr<RunRequest> request, Napi::Array arrays);
  ~Job() override;

  // {promise, cancel()}. At once if the runtime is free and such runs are known to take less than `here_below`
  // microseconds: {result} then, or a promise that is rejected already.
  static Napi::Value start(Napi::Env env, std::unique_ptr<Job> job, double here_below);

  void post() { plan_->runtime->runtime->post(this); }
  void cancel() { request_->cancelled.store(true, std::memory_order_relaxed); }
  void run(Runtime& runtime) noexcept override;
  void prepare(Task& running) noexcept override;
  void settle(napi_env env);

 private:
  bool run_here(double below);
  void compute() noexcept;
  napi_value result(napi_env env) const;

  Environment& environment_;
  std::shared_ptr<PlanBox> plan_;
  std::shared_ptr<RunRequest> request_;  // shared with cancel(), which may outlive the job
  RunOutcome outcome_;
  std::string error_, error_code_;
  napi_env env_;
  napi_ref arrays_ = nullptr;
  napi_deferred deferred_ = nullptr;
  bool here_ = false;  // it ran on the JavaScript thread
};

}  // namespace longer::addon
