#include "simt/machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <vector>

#include "simt/fiber.h"
#include "simt/random.h"

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

namespace {

// A call through these is a call of the sanitizers' versions, which check and record the access.
void* (*volatile copy_bytes)(void*, const void*, size_t) = std::memcpy;
void* (*volatile set_bytes)(void*, int, size_t) = std::memset;

constexpr size_t kMostShared = 227 * 1024;
constexpr int kBarriers = 16;

struct Block;

struct Thread {
  Place place;
  Block* block;
  std::unique_ptr<Fiber> fiber;
  enum State { ready, waiting, watching, ended } state = waiting;  // watching: a condition that others may make true
  Site site{"", "", 0};
  std::vector<AsyncCopy> copies;
  std::deque<std::vector<AsyncCopy>> groups;
  std::map<std::pair<const char*, int>, int64_t> accesses;

  std::string name() const {
    const Dim3 b = place.block, t = place.thread;
    char text[96];
    std::snprintf(text, sizeof text, "block (%u,%u,%u) thread (%u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
    return text;
  }
};

struct Meeting {
  uint32_t mask, arrived;
  Site site;
  void* of_lane[32];
  Thread* thread[32];
  void* fence;
};

struct Barrier {
  int arrived = 0, count = 0;  // count 0: every thread that has not ended
  Site site{"", "", 0};
  std::vector<Thread*> waiting;
  void* fence = nullptr;
};

struct Access {
  uintptr_t address[32];
  int bytes[32];
  uint32_t lanes = 0;
  bool shared = false;
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<std::vector<Meeting>> meetings;  // open ones, of each warp
  std::vector<uint32_t> alive;                 // lanes of each warp that have not ended
  Barrier barriers[kBarriers];
  std::vector<std::function<void()>> engine;
  std::map<std::tuple<unsigned, const char*, int, int64_t>, Access> accesses;
  unsigned char* shared = nullptr;
  std::shared_ptr<void> extra;
  int running = 0;
  Thread* now = nullptr;
  uint64_t ready[16] = {};  // a bit a thread

  void set(Thread* thread, Thread::State state) {
    thread->state = state;
    uint64_t& word = ready[thread->place.linear / 64];
    const uint64_t bit = uint64_t{1} << (thread->place.linear % 64);
    word = state == Thread::ready ? word | bit : word & ~bit;
  }
  // The first ready thread at or after `from` in this direction, going round; nullptr where none is ready.
  Thread* next_ready(unsigned from, bool backward) const {
    const unsigned words = (threads.size() + 63) / 64;
    for (unsigned i = 0; i <= words; ++i) {
      const unsigned w = backward ? (from / 64 + words - i % words) % words : (from / 64 + i) % words;
      uint64_t bits = ready[w];
      const uint64_t low = (uint64_t{1} << (from % 64)) - 1;  // below `from`
      const uint64_t reach = backward ? (low << 1 | 1) : ~low;
      if (i == 0) bits &= reach;
      if (i == words) bits &= ~reach;
      if (bits) return threads[w * 64 + (backward ? 63 - __builtin_clzll(bits) : __builtin_ctzll(bits))].get();
    }
    return nullptr;
  }
};

struct Launch {
  std::string name;
  const std::function<void()>* kernel;
  Random random;
  std::vector<void*> fences;      // freed when the launch ends: an address is a fence once
  std::vector<void*> memory;
  void* begin = nullptr;
  void* end = nullptr;
  std::string failure;
  std::unique_ptr<Block> block;
  std::vector<std::unique_ptr<Block>> done;
};
Launch* launched = nullptr;

Thread* self() { return launched->block->now; }

std::string text(Site site) { return std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line); }
bool same(Site a, Site b) { return a.line == b.line && !std::strcmp(a.what, b.what) && !std::strcmp(a.file, b.file); }

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

void finish_barrier(Barrier& barrier) {
  ++counters().barriers;
  for (Thread* thread : barrier.waiting) launched->block->set(thread, Thread::ready);
  barrier = Barrier();
}

void end_access(const Access& access) {
  if (access.shared) {  // lanes go 128 bytes at a time; a bank serves one 4-byte word a cycle
    int each = 0;
    for (int lane = 0; lane < 32; ++lane)
      if (access.lanes >> lane & 1) each = std::max(each, access.bytes[lane]);
    const int together = each > 4 ? 128 / each : 32;
    for (int first = 0; first < 32; first += together) {
      std::set<uintptr_t> words[32];
      for (int lane = first; lane < first + together; ++lane)
        if (access.lanes >> lane & 1)
          for (int b = 0; b < access.bytes[lane]; b += 4) {
            const uintptr_t word = (access.address[lane] + b) / 4;
            words[word % 32].insert(word);
          }
      size_t most = 1;
      for (const auto& bank : words) most = std::max(most, bank.size());
      counters().bank_conflicts += most - 1;
    }
    return;
  }
  std::set<uintptr_t> sectors;
  for (int lane = 0; lane < 32; ++lane)
    if (access.lanes >> lane & 1)
      for (uintptr_t s = access.address[lane] / 32; s <= (access.address[lane] + access.bytes[lane] - 1) / 32; ++s) sectors.insert(s);
  counters().global_sectors += sectors.size();
}

void count_access(const void* address, int bytes, bool shared, const char* file, int line) {
  const order::Quiet quiet;
  Thread* thread = self();
  const int64_t turn = thread->accesses[{file, line}]++;
  Access& access = launched->block->accesses[{thread->place.warp, file, line, turn}];
  const unsigned lane = thread->place.lane;
  access.address[lane] = reinterpret_cast<uintptr_t>(address);
  access.bytes[lane] = bytes;
  access.lanes |= 1u << lane;
  access.shared = shared;
}

void complete(const std::vector<AsyncCopy>& copies) {
  for (const AsyncCopy& copy : copies) {
    if (copy.from_bytes) copy_bytes(copy.to, copy.from, copy.from_bytes);
    if (copy.from_bytes < copy.bytes) set_bytes(static_cast<char*>(copy.to) + copy.from_bytes, 0, copy.bytes - copy.from_bytes);
  }
}

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

void meet_warp(uint32_t mask, Site site, void* argument, WarpRun run, bool ordered) {
  Thread* thread = self();
  Block& block = *thread->block;
  const unsigned lane = thread->place.lane, warp = thread->place.warp;
  if (!(mask >> lane & 1)) fail("the mask does not name the calling lane", site);
  if (mask & ~block.alive[warp]) fail("the mask names a lane that has ended or never was", site);
  std::vector<Meeting>& open = block.meetings[warp];
  Meeting all;
  {
    const order::Quiet quiet;
    size_t at = 0;
    for (; at < open.size(); ++at) {
      const Meeting& other = open[at];
      if (other.mask == mask && same(other.site, site) && !(other.arrived >> lane & 1)) break;
      if ((other.mask >> lane & 1) && (mask & other.arrived))  // each waits for the other
        fail("divergent collective: others of this warp are in " + text(other.site), site);
    }
    if (at == open.size()) open.push_back({mask, 0, site, {}, {}, ordered ? new_fence() : nullptr});
    Meeting& meeting = open[at];
    meeting.arrived |= 1u << lane;
    meeting.of_lane[lane] = argument;
    meeting.thread[lane] = thread;
    all = meeting;
    if (all.arrived == mask) open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
  }
  order::release(all.fence);
  if (all.arrived != mask) {
    pause(Thread::waiting, site);
  } else {
    ++counters().warp_collectives;
    if (run) run(all.of_lane, mask);
    for (int i = 0; i < 32; ++i)
      if ((mask >> i & 1) && all.thread[i] != thread) block.set(all.thread[i], Thread::ready);
    preempt();
  }
  order::acquire(all.fence);
}

namespace {

void sync(int id, int count, bool wait, Site site) {
  const order::Quiet quiet;
  Thread* thread = self();
  Block& block = *thread->block;
  Barrier& barrier = block.barriers[id];
  if (!barrier.arrived) {
    barrier.count = count;
    barrier.site = site;
    barrier.fence = new_fence();
  } else if (barrier.count != count) {
    fail("others came to this barrier with another number of threads, in " + text(barrier.site), site);
  } else if (count == 0 && !same(barrier.site, site)) {
    fail("divergent barrier: others of this block are in " + text(barrier.site), site);
  }
  void* fence = barrier.fence;
  order::release(fence);
  const bool last = ++barrier.arrived >= (count ? count : block.running);
  if (last) {
    finish_barrier(barrier);
    preempt();
  } else if (wait) {
    barrier.waiting.push_back(thread);
    pause(Thread::waiting, site);
  }
  if (wait) order::acquire(fence);
}

}  // namespace

void sync_block(Site site) { sync(0, 0, true, site); }

void sync_named(int id, int count, bool wait, Site site) {
  if (id < 1 || id >= kBarriers) fail("named barriers are 1 to 15", site);
  if (count <= 0 || count % 32) fail("the threads of a named barrier must be a multiple of 32", site);
  sync(id, count, wait, site);
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

uint32_t shared_offset(const void* address) {
  const auto* byte = static_cast<const unsigned char*>(address);
  if (byte < current->shared || byte > current->shared + current->shared_bytes)
    fail("an address that is not in shared memory", {"a shared access", "", 0});
  return static_cast<uint32_t>(byte - current->shared);
}

unsigned char* shared_at(uint32_t offset, size_t bytes) {
  Block& block = *launched->block;
  const Place& place = block.threads[0]->place;
  if (offset + bytes > place.shared_bytes) {
    launched->failure = "an asynchronous instruction reaches offset " + std::to_string(offset + bytes) + " of " +
                        std::to_string(place.shared_bytes) + " bytes of shared memory";
    return nullptr;
  }
  return block.shared + offset;
}

void count_global(const void* address, int bytes, bool write, const char* file, int line) {
  (write ? counters().global_write_bytes : counters().global_read_bytes) += bytes;
  count_access(address, bytes, false, file, line);
}

void count_shared(const void* address, int bytes, const char* file, int line) { count_access(address, bytes, true, file, line); }

void async_copy(AsyncCopy copy) {
  set_bytes(copy.to, 0xff, copy.bytes);  // undefined until waited for
  const order::Quiet quiet;
  self()->copies.push_back(copy);
}

void async_commit() {
  const order::Quiet quiet;
  self()->groups.push_back(std::move(self()->copies));
  self()->copies.clear();
}

void async_wait(int groups_left) {
  Thread* thread = self();
  while (thread->groups.size() > static_cast<size_t>(groups_left)) {
    complete(thread->groups.front());
    const order::Quiet quiet;
    thread->groups.pop_front();
  }
}

}  // namespace simt
