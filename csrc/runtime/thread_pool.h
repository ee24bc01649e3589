// A fixed set of threads that share the tasks of one loop at a time.
//
// Determinism contract: a task's work is a function of its index alone. How tasks are dealt to workers is not
// fixed, so a task may only write what no other task of the same loop touches (or the scratch of its worker).
// Each worker begins with a share of neighbouring tasks, the same part of every loop, so that what it wrote is in its own
// cache when it reads it again; then it helps the others with theirs. Loops are not nested, and one thread at a time calls
// parallel_for. A task that throws ends the loop early: the first exception comes out of parallel_for once no worker is
// inside the loop any more.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace longer {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the calling thread counts as one of them
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // Wakes workers that sleep, ahead of loops that are about to come: waking takes as long as many a loop.
  void rouse();
  uint64_t loops() const { return loops_; }  // that were shared so far; of the thread that calls parallel_for

  // Runs body(task, worker) for every task in [0, tasks); worker in [0, size()). Returns when all are done.
  template <class Body>
  void parallel_for(int64_t tasks, Body&& body) {
    if (tasks <= 0) return;
    if (tasks == 1 || threads_ == 1) {
      for (int64_t t = 0; t < tasks; ++t) body(t, 0);
      return;
    }
    run(tasks, [](void* b, int64_t t, int w) { (*static_cast<std::remove_reference_t<Body>*>(b))(t, w); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Thunk = void (*)(void*, int64_t, int);
  void run(int64_t tasks, Thunk thunk, void* body);
  void work(int worker);
  void drain(int worker);
  void announce(int64_t most);
  void stop();
  bool nobody_inside() const { return gate_.load(std::memory_order_acquire) == 0; }

  int threads_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;  // for who sleeps; a loop whose workers spin does without
  std::condition_variable wake_, done_;
  // A thread that goes to sleep says so before it looks a last time; one that has news tells before it looks who sleeps.
  std::atomic<int> sleepers_{0};
  std::atomic<bool> waiting_{false};  // the caller of parallel_for sleeps
  std::atomic<bool> stopping_{false};
  uint64_t loops_ = 0;
  alignas(64) std::atomic<uint64_t> generation_{0};

  // The open flag of the loop plus the number of workers inside. A worker adds itself first and looks at the flag in
  // the same step: one that comes late finds the gate shut, or open with the fields below already those of the next loop.
  alignas(64) std::atomic<int64_t> gate_{0};
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::unique_ptr<Share[]> shares_;  // of tasks, a worker each
  Thunk thunk_ = nullptr;
  void* body_ = nullptr;
  std::exception_ptr failure_;  // under mutex_ while anybody is inside
};

// A pool of the calling thread alone: it has no state, so any number of threads may use it at once.
ThreadPool& one_thread();

}  // namespace longer
