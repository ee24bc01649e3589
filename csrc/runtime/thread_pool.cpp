#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace longer {

namespace {
constexpr int64_t kOpen = int64_t{1} << 32;
// Covers the gap between two loops of one run, waking a thread taking 30 to 90 us; longer burns a core that somebody else may want.
constexpr auto kSpinTime = std::chrono::microseconds(200);

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

template <class Condition>
bool spin_until(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}
}  // namespace

ThreadPool& one_thread() {
  static ThreadPool pool(1);
  return pool;
}

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads), shares_(new Share[static_cast<size_t>(threads_)]) {
  workers_.reserve(static_cast<size_t>(threads_ - 1));
  try {
    for (int w = 1; w < threads_; ++w) workers_.emplace_back([this, w] { work(w); });
  } catch (...) {  // the system's thread limit
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_ = true;
  announce(threads_);
  for (auto& t : workers_) t.join();
}

void ThreadPool::drain(int worker) {
  try {
    for (int i = 0; i < threads_; ++i) {
      Share& share = shares_[(worker + i) % threads_];
      for (int64_t t; (t = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) thunk_(body_, t, worker);
    }
  } catch (...) {
    for (int w = 0; w < threads_; ++w) shares_[w].next.store(shares_[w].end, std::memory_order_relaxed);
    std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void ThreadPool::run(int64_t tasks, Thunk thunk, void* body) {
  thunk_ = thunk;
  body_ = body;
  for (int w = 0; w < threads_; ++w) {
    shares_[w].next.store(tasks * w / threads_, std::memory_order_relaxed);
    shares_[w].end = tasks * (w + 1) / threads_;
  }
  gate_.fetch_add(kOpen, std::memory_order_release);
  ++loops_;
  announce(tasks - 1);

  drain(0);
  gate_.fetch_sub(kOpen, std::memory_order_acq_rel);
  if (!spin_until([this] { return nobody_inside(); })) {
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    done_.wait(lock, [this] { return gate_.load() == 0; });
    waiting_ = false;
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::announce(int64_t most) {
  ++generation_;
  if (sleepers_ == 0) return;
  int64_t wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);  // who counted itself in is asleep by now, or will look again
    wake = std::min<int64_t>(sleepers_, most);
  }
  for (; wake > 0; --wake) wake_.notify_one();
}

void ThreadPool::rouse() {
  if (sleepers_ > 0) announce(threads_);
}

void ThreadPool::work(int worker) {
  uint64_t seen = 0;
  for (;;) {
    if (!spin_until([&] { return generation_.load(std::memory_order_acquire) != seen; })) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++sleepers_;
      wake_.wait(lock, [&] { return generation_ != seen; });
      --sleepers_;
    }
    seen = generation_;
    if (stopping_) return;
    if (gate_.fetch_add(1) >= kOpen) drain(worker);
    if (gate_.fetch_sub(1) == 1 && waiting_) {  // the last one out of a shut gate
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }
}

}  // namespace longer
