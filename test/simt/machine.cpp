#include <algorithm>
#include <cstdlib>

#include "simt/machine_state.h"

namespace simt {

Options& options() {
  static Options value;
  return value;
}

Counters& counters() {
  static Counters value;
  return value;
}

const Place* current = nullptr;

Launch* launched = nullptr;

void* new_fence() {
  void* fence = order::create();
  if (fence) launched->fences.push_back(fence);
  return fence;
}

void pause(Thread::State state, Site site) {
  Thread* thread = self();
  launched->block->set(thread, state);
  thread->site = site;
  Fiber::pause();
}

namespace {

constexpr size_t kMostShared = 227 * 1024;

void run_thread(void* argument) {
  Thread* thread = static_cast<Thread*>(argument);
  Block& block = *thread->block;
  order::acquire(launched->begin);
  (*launched->kernel)();
  order::release(launched->end);
  const order::Quiet quiet;
  const unsigned warp = thread->place.warp, lane = thread->place.lane;
  block.set(thread, Thread::ended);
  --block.running;
  block.alive[warp] &= ~(1u << lane);
  for (const Meeting& meeting : block.meetings[warp])
    if (meeting.mask >> lane & 1) fail("this thread ended, but is named by the mask of " + text(meeting.site), meeting.site);
  if (!thread->copies.empty() || !thread->groups.empty())
    fail("this thread ended with cp.async copies that nobody waited for", {"end", "", 0});
  for (Barrier& barrier : block.barriers)
    if (barrier.arrived && !barrier.count && barrier.arrived >= block.running) finish_barrier(barrier);
}

void run_engine(Block& block, size_t index) {
  const std::function<void()> work = std::move(block.engine[index]);
  block.engine.erase(block.engine.begin() + index);
  work();
}

void describe_deadlock(const Block& block) {
  std::string what = "deadlock:";
  int told = 0;
  for (const auto& thread : block.threads)
    if (thread->state != Thread::ended && ++told <= 8) what += "\n  " + thread->name() + " waits in " + text(thread->site);
  if (told > 8) what += "\n  and " + std::to_string(told - 8) + " others";
  launched->failure = what;
}

void run_block(Dim3 at, Dim3 grid, Dim3 size, size_t shared_bytes) {
  launched->block = std::make_unique<Block>();
  Block& block = *launched->block;
  void* shared = nullptr;
  if (posix_memalign(&shared, 1024, shared_bytes ? shared_bytes : 1) != 0) throw std::bad_alloc();
  launched->memory.push_back(shared);
  std::memset(shared, 0xff, shared_bytes);  // NaN in every float type
  block.shared = static_cast<unsigned char*>(shared);
  const unsigned count = size.size();
  block.running = static_cast<int>(count);
  block.meetings.resize((count + 31) / 32);
  block.alive.resize((count + 31) / 32);
  for (unsigned i = 0; i < count; ++i) {
    auto thread = std::make_unique<Thread>();
    thread->place = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, at, size, grid, i % 32, i / 32, i, block.shared, shared_bytes};
    thread->block = &block;
    thread->fiber = std::make_unique<Fiber>(run_thread, thread.get());
    block.alive[i / 32] |= 1u << (i % 32);
    block.set(thread.get(), Thread::ready);
    block.threads.push_back(std::move(thread));
  }
  const Schedule schedule = options().schedule;
  while (block.running > 0 || !block.engine.empty()) {
    const unsigned from = schedule == Schedule::random ? launched->random() % count : schedule == Schedule::reverse ? count - 1 : 0;
    Thread* next = block.next_ready(from, schedule == Schedule::reverse);
    if (!block.engine.empty() && (!next || schedule == Schedule::reverse || (schedule == Schedule::random && launched->random() % 4 == 0))) {
      run_engine(block, schedule == Schedule::random ? launched->random() % block.engine.size() : 0);
      if (!launched->failure.empty()) break;
      continue;
    }
    if (!next) {
      describe_deadlock(block);
      break;
    }
    block.now = next;
    current = &block.now->place;
    block.now->fiber->resume();
    current = nullptr;
    if (!launched->failure.empty()) break;
  }
  for (const auto& access : block.accesses) end_access(access.second);
  ++counters().blocks;
  counters().shared_bytes = std::max<int64_t>(counters().shared_bytes, shared_bytes);
  if (!order::watched()) {
    std::free(shared);
    launched->memory.clear();
  }
  // TSan gives the number of a thread that is gone to a new one, which then hides a race between the two: keep them all.
  if (order::watched()) launched->done.push_back(std::move(launched->block));
  launched->block.reset();
}

}  // namespace

void launch(const char* name, Dim3 grid, Dim3 size, size_t shared_bytes, const std::function<void()>& kernel) {
  if (launched) throw Failure("a kernel launches a kernel");
  if (grid.size() == 0 || grid.y > 65535 || grid.z > 65535 || size.size() == 0 || size.size() > 1024 || size.z > 64 || shared_bytes > kMostShared)
    throw Failure(std::string(name) + ": CUDA would refuse a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                  std::to_string(grid.z) + " blocks of " + std::to_string(size.size()) + " threads with " + std::to_string(shared_bytes) +
                  " bytes of shared memory");
  const order::Quiet quiet;
  Launch here;
  here.name = name;
  here.kernel = &kernel;
  here.random = Random(options().seed);
  here.begin = order::create();
  here.end = order::create();
  order::release(here.begin);
  launched = &here;
  ++counters().launches;
  const bool random = options().schedule == Schedule::random, backward = options().schedule == Schedule::reverse;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  std::vector<uint64_t> turn(blocks);
  for (uint64_t i = 0; i < blocks; ++i) turn[i] = backward ? blocks - 1 - i : i;
  if (random)
    for (uint64_t i = blocks; i > 1; --i) std::swap(turn[i - 1], turn[here.random() % i]);
  for (const uint64_t i : turn) {
    run_block(Dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), grid, size, shared_bytes);
    if (!here.failure.empty()) break;
  }
  launched = nullptr;
  order::acquire(here.end);
  for (void* fence : here.fences) order::destroy(fence);
  for (void* memory : here.memory) std::free(memory);
  order::destroy(here.begin);
  order::destroy(here.end);
  if (!here.failure.empty()) throw Failure(here.name + ": " + here.failure);
}

void fail(const std::string& what, Site site) {
  launched->failure = self()->name() + (site.line ? " in " + text(site) : std::string()) + ": " + what;
  Fiber::pause();  // the block is thrown away
  std::abort();
}

void preempt() {
  if (options().schedule == Schedule::random && launched->random() % 2) pause(Thread::ready, {"a preemption", "", 0});
}

void wait_until(bool (*holds)(const void*), const void* argument, Site site) {
  while (!holds(argument)) pause(Thread::watching, site);
}

void wake_waiting() {
  for (const auto& thread : launched->block->threads)
    if (thread->state == Thread::watching) launched->block->set(thread.get(), Thread::ready);
}

void enqueue_engine(std::function<void()> work) {
  const order::Quiet quiet;
  launched->block->engine.push_back(std::move(work));
}

std::shared_ptr<void>& block_extra() { return launched->block->extra; }

void* block_order() { return new_fence(); }

}  // namespace simt
