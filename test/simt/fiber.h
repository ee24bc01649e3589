// Stackful fibers: one for each CUDA thread of the emulator. Announced to ASan and TSan where they are linked.
#pragma once
#include <cstddef>

namespace simt {

class Fiber {
 public:
  using Entry = void (*)(void*);

  Fiber(Entry entry, void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();         // by the scheduler; returns when the fiber pauses or ends
  static void pause();   // by a fiber; returns at the next resume
  bool ended() const { return ended_; }

 private:
  static void start();

  Entry entry_;
  void* argument_;
  char* memory_;
  void* stack_pointer_;
  void* sanitizer_stack_ = nullptr;
  void* thread_ = nullptr;  // TSan's
  bool ended_ = false;
};

// What orders memory in CUDA, told to TSan. A fence is a place that one side releases and the other acquires; each is
// used for one meeting only. Without TSan all of this is nothing.
namespace order {
bool watched();                 // is TSan linked?
void* create();                 // nullptr where not watched
void release(void* place);
void acquire(void* place);
void destroy(void* place);

// While one lives, TSan does not look at what this thread does: the machine's own bookkeeping.
struct Quiet {
  Quiet();
  ~Quiet();
};

// Runs `work` as a thread of its own that starts after `from` and that `to` waits for.
void as_engine(void* from, void* to, void (*work)(void*), void* argument);
}  // namespace order

}  // namespace simt
