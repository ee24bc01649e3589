#include "runtime/worker.h"

#include <algorithm>
#include <exception>
#include <future>

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#endif

namespace longer {

namespace {
constexpr int kMostThreads = 1024;
}

int available_threads() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Runtime::Runtime(int threads, std::shared_ptr<Device> device, int niceness)
    : threads_(std::min(threads < 1 ? available_threads() : threads, kMostThreads)),
      lane_(device ? std::make_unique<DeviceLane>(std::move(device)) : nullptr) {
  if (lane_) lane_->next = [this] { return prepare_next(); };
  std::promise<void> started;
  auto ready = started.get_future();
  thread_ = std::thread([this, &started, niceness] {
#if defined(__linux__)
    // Of this thread alone, as Linux has it, and of the pool's, which inherit it. Standing back is always allowed.
    if (niceness > 0) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + niceness);
#endif
    try {
      pool_ = std::make_unique<ThreadPool>(threads_);
    } catch (...) {
      started.set_exception(std::current_exception());
      return;
    }
    started.set_value();
    loop();
    pool_.reset();
  });
  try {
    ready.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Runtime::~Runtime() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Runtime::post(Task* task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(task);
  }
  changed_.notify_one();
}

bool Runtime::try_enter() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (busy_ || !queue_.empty()) return false;
  return busy_ = true;
}

void Runtime::leave() {
  bool waited_for;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    busy_ = false;
    waited_for = !queue_.empty();
  }
  if (waited_for) changed_.notify_one();
}

// Whether there is nothing more to do ahead of the next task: only the first in the queue is prepared.
bool Runtime::prepare_next() {
  if (!running_) return true;
  Task* next;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (queue_.empty()) return false;
    next = queue_.front();
  }
  next->prepare(*running_);
  return true;
}

void Runtime::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !busy_ && (stopping_ || !queue_.empty()); });
    if (queue_.empty()) return;
    Task* task = queue_.front();
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    running_ = task;
    task->run(*this);
    running_ = nullptr;
    lock.lock();
    busy_ = false;
  }
}

}  // namespace longer
