// What the parts of the machine share: the running launch, its block, its threads.
#pragma once
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "simt/fiber.h"
#include "simt/machine.h"
#include "simt/random.h"

namespace simt {

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
extern Launch* launched;  // nullptr: none

inline Thread* self() { return launched->block->now; }

inline std::string text(Site site) { return std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line); }
inline bool same(Site a, Site b) { return a.line == b.line && !std::strcmp(a.what, b.what) && !std::strcmp(a.file, b.file); }

void* new_fence();
void pause(Thread::State state, Site site);
void finish_barrier(Barrier& barrier);   // all have come
void end_access(const Access& access);   // counts what its lanes did together

}  // namespace simt
