// A runtime: one thread of its own that runs tasks in the order posted, with a pool and an arena for them; or with a device.
// While nothing is queued or runs, another thread may enter it and do there what a task may.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/arena.h"
#include "runtime/device_lane.h"
#include "runtime/thread_pool.h"

namespace longer {

class Runtime;

// The poster owns the task and keeps it alive until run() has handed it back.
class Task {
 public:
  virtual ~Task() = default;
  virtual void run(Runtime& runtime) noexcept = 0;
  // Before that, while another runs on the runtime's device: what can be done ahead. Same thread as run().
  virtual void prepare(Task& running) noexcept { (void)running; }
};

int available_threads();  // the processors that this process may use

class Runtime {
 public:
  // 0 threads: available_threads(). The runtime's own thread is one of them.
  // niceness: how far its threads stand back behind others where CPUs are short (setpriority of Linux), 0 to 19.
  explicit Runtime(int threads, std::shared_ptr<Device> device = nullptr, int niceness = 0);
  ~Runtime();  // runs what is queued, then joins; not from the runtime's own thread
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  void post(Task* task);
  bool try_enter();  // false while something is queued or runs; tasks posted meanwhile wait for leave()
  void leave();
  int threads() const { return threads_; }
  ThreadPool& pool() { return *pool_; }  // loops only from a task or inside; its size from any thread
  Arena& arena() { return arena_; }      // from a task or inside; its capacity from any thread
  DeviceLane* lane() { return lane_.get(); }  // nullptr: runs are the CPU's. From a task; its device from any thread

 private:
  void loop();
  bool prepare_next();

  int threads_;
  std::unique_ptr<ThreadPool> pool_;
  Arena arena_;
  std::unique_ptr<DeviceLane> lane_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task*> queue_;
  Task* running_ = nullptr;  // of the runtime's thread
  bool stopping_ = false;
  bool busy_ = false;  // a task runs, or a thread is inside
  std::thread thread_;
};

}  // namespace longer
