// The machine that runs CUDA kernels on the CPU. Blocks run one after another; the threads of a block are fibers, which
// are switched only where CUDA threads may have to wait. Compiled without sanitizers: the kernels are what is watched.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

namespace simt {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  unsigned size() const { return x * y * z; }
};

// Where a thread waits: for messages, and to tell whether the lanes of a warp mean the same instruction.
struct Site {
  const char* what;
  const char* file;
  int line;
};
#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

enum class Schedule {
  forward,  // thread 0 first; asynchronous copies as late as possible
  reverse,  // the last thread first; asynchronous copies as early as possible
  random,   // by `seed`; atomics and barriers may be preempted
};

struct Options {
  Schedule schedule = Schedule::forward;
  uint64_t seed = 1;
  int architecture = 90;  // what the GPU is said to be: 80 has no TMA and no wgmma
};
Options& options();

// What a launch cost, summed since reset. Only what passes through ptx.cuh and the language is seen.
struct Counters {
  int64_t launches = 0, blocks = 0;
  int64_t barriers = 0;         // __syncthreads and named barriers, one a block and meeting
  int64_t warp_collectives = 0; // shuffles, votes, ldmatrix, mma
  int64_t mma_flops = 0;        // mma and wgmma, 2 a multiply-add
  int64_t bank_conflicts = 0;   // extra cycles of ldmatrix, stmatrix and shared vectors
  int64_t global_read_bytes = 0, global_write_bytes = 0;
  int64_t global_sectors = 0;   // of 32 bytes, a warp's accesses of one instruction merged
  int64_t shared_bytes = 0;     // the largest shared memory of a block
};
Counters& counters();

// A mistake in a kernel that the machine itself sees: deadlock, divergent collective, wrong mask...
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void launch(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& kernel);

// ---- for the emulated language, inside a kernel

struct Place {
  Dim3 thread, block, block_size, grid;
  unsigned lane, warp, linear;
  unsigned char* shared;
  size_t shared_bytes;
};
extern const Place* current;  // of the running thread; nullptr on the host

[[noreturn]] void fail(const std::string& what, Site site);
void preempt();  // a point where another thread may run first

// All lanes of `mask` leave a pointer; the last to arrive runs `run` for all of them. `ordered`: a memory fence too.
using WarpRun = void (*)(void* const* of_lane, uint32_t mask);
void meet_warp(uint32_t mask, Site site, void* argument, WarpRun run, bool ordered);

void sync_block(Site site);                                // __syncthreads
void sync_named(int id, int count, bool wait, Site site);  // bar.sync, bar.arrive

void wait_until(bool (*holds)(const void*), const void* argument, Site site);
void wake_waiting();  // after a change that a wait_until may look at

// Work of a copy engine: runs at some time after this call and before the block can end.
void enqueue_engine(std::function<void()> work);

std::shared_ptr<void>& block_extra();         // whatever another part of the machine keeps for the running block
void* block_order();                          // a fresh fence that lives until the launch ends
uint32_t shared_offset(const void* address);  // address in the shared window; fails outside
unsigned char* shared_at(uint32_t offset, size_t bytes);

// One access of global memory by one lane of an instruction; the lanes are merged for `global_sectors`.
void count_global(const void* address, int bytes, bool write, const char* file, int line);
void count_shared(const void* address, int bytes, const char* file, int line);

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes, from_bytes;  // the rest is filled with zero
};
void async_copy(AsyncCopy copy);
void async_commit();
void async_wait(int groups_left);

}  // namespace simt
