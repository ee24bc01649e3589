// Memory in large blocks: straight from the system, so that what is freed really goes back.
#pragma once
#include <atomic>
#include <cstdint>

namespace longer {

constexpr int64_t kAlignment = 64;
inline int64_t align_up(int64_t bytes, int64_t alignment = kAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The scratch memory of two threads stands this far apart: the hardware fetches ahead of what a thread reads, and would take from
// the other the lines that it is writing. Measured on Zen 5: products of two threads took 1.5 times as long side by side.
constexpr int64_t kScratchGap = int64_t{128} << 10;
inline int64_t scratch_size(int64_t bytes, int64_t threads) { return threads == 1 ? align_up(bytes) : align_up(bytes) + kScratchGap; }

// One zeroed block, 64-byte aligned, never null. Vector loads that run up to 64 bytes past the end stay inside it.
class MemoryBlock {
 public:
  MemoryBlock() = default;
  explicit MemoryBlock(int64_t bytes);
  ~MemoryBlock() { release(); }
  MemoryBlock(MemoryBlock&& other) noexcept { swap(other); }
  MemoryBlock& operator=(MemoryBlock&& other) noexcept { swap(other); return *this; }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void release();
  void swap(MemoryBlock& other);

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  void* base_ = nullptr;     // what the system gave
  int64_t reserved_ = 0;     // its size when mapped; 0 when it came from malloc
};

// Scratch memory of one run after another. Grows geometrically, keeps nothing across growth, never shrinks.
class Arena {
 public:
  // Valid until the next call of reserve().
  uint8_t* reserve(int64_t bytes);
  int64_t capacity() const { return capacity_.load(std::memory_order_relaxed); }  // from any thread

 private:
  MemoryBlock block_;
  std::atomic<int64_t> capacity_{0};
};

}  // namespace longer
