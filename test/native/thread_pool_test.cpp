// The thread pool without JavaScript. Small, so that it can run under sanitizers.
#include <atomic>
#include <chrono>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "runtime/thread_pool.h"

using namespace longer;

// The first task of a share ends only when all other tasks have run: the others must take over the rest of that share.
void pool_shares_are_helped() {
  for (int threads : {2, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> done{0};
      pool.parallel_for(40, [&](int64_t t, int) {
        if (t == 0)
          while (done.load() < 39) std::this_thread::yield();
        done.fetch_add(1);
      });
      CHECK(done.load() == 40);
    }
  }
}

// Short loops in quick succession and with pauses: a late worker must never run a task of a loop that is over.
void pool_runs_every_task_once() {
  std::mt19937 random(1);
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 1500; ++round) {
      const int64_t tasks = 1 + static_cast<int64_t>(random() % 40);
      std::vector<int> hits(static_cast<size_t>(tasks), 0);
      pool.parallel_for(tasks, [&](int64_t t, int worker) {
        CHECK(worker >= 0 && worker < threads);
        ++hits[static_cast<size_t>(t)];
      });
      for (int h : hits) CHECK(h == 1);
      if (round % 300 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // workers fall asleep
    }
  }
}

void pool_carries_exceptions() {
  ThreadPool pool(3);
  for (int round = 0; round < 100; ++round) {
    const std::string message = message_of([&] {
      pool.parallel_for(20, [&](int64_t t, int) {
        if (t == round % 20) throw std::runtime_error("task");
      });
    });
    CHECK(message == "task");
    std::atomic<int> done{0};
    pool.parallel_for(20, [&](int64_t, int) { ++done; });
    CHECK(done == 20);
  }
}

// Workers that are roused ahead of a loop, awake or asleep, find it.
void pool_is_roused() {
  ThreadPool pool(3);
  for (int round = 0; round < 30; ++round) {
    if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    pool.rouse();
    std::atomic<int> sum{0};
    const uint64_t before = pool.loops();
    pool.parallel_for(20, [&](int64_t t, int) { sum.fetch_add(static_cast<int>(t)); });
    pool.parallel_for(1, [&](int64_t, int worker) { CHECK(worker == 0); });
    CHECK(sum.load() == 190 && pool.loops() == before + 1);
  }
}

int main() {
  pool_runs_every_task_once();
  pool_shares_are_helped();
  pool_is_roused();
  pool_carries_exceptions();
  std::puts("thread pool: ok");
  return 0;
}
