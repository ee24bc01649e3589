// What the addon keeps for one JavaScript environment (the main thread or a worker): the jobs in flight and the way back.
#pragma once
#include <napi.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace longer::addon {

class Job;

// Runtimes hand finished jobs in from their threads; the JavaScript thread takes them out and settles them.
//
// Teardown: node may tear the environment down at any moment (worker.terminate(), process.exit()). A clean-up hook then
// cancels all jobs and waits until no thread is inside one, because the arrays they borrow go away right after.
// The thread-safe function may die at any time after that, so it is touched only under the mutex and while open.
class Environment {
 public:
  static Environment& of(napi_env env);
  explicit Environment(napi_env env);

  void start(Job* job);        // takes it; JavaScript thread
  void finished(Job* job);     // from a runtime's thread: its last touch of the job

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    napi_threadsafe_function function = nullptr;  // null once closed
    std::vector<Job*> done;
    size_t running = 0;
  };

  static void on_wake(napi_env env, napi_value, void* context, void*);
  static void on_closed(napi_env, void* data, void*);
  static void on_teardown(void* self);
  void settle_done(napi_env env);
  void set_referenced(bool referenced);

  napi_env env_;
  std::shared_ptr<Shared> shared_;
  std::vector<Job*> jobs_;    // all in flight, owned; JavaScript thread
  std::vector<Job*> taken_;
};

}  // namespace longer::addon
