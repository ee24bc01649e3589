#include "runtime/arena.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define LONGER_HAS_MMAP 1
#endif

namespace longer {

namespace {
constexpr int64_t kMapFrom = int64_t{1} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kHugeFrom = 2 * kHugePage;
constexpr int64_t kLargest = int64_t{1} << 46;  // more than any machine has; keeps the sums below from overflowing

Error out_of_memory(int64_t bytes) {
  return memory_error("cannot allocate " + std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB");
}

void* align(void* p, int64_t alignment) {
  return reinterpret_cast<void*>(align_up(static_cast<int64_t>(reinterpret_cast<uintptr_t>(p)), alignment));
}
}  // namespace

MemoryBlock::MemoryBlock(int64_t bytes) : bytes_(bytes) {
  if (bytes < 0 || bytes > kLargest) throw out_of_memory(bytes);
#if LONGER_HAS_MMAP
  if (bytes >= kMapFrom) {
    const bool huge = bytes >= kHugeFrom;
    reserved_ = align_up(bytes + kAlignment, 4096) + (huge ? kHugePage : 0);
    base_ = mmap(nullptr, static_cast<size_t>(reserved_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      base_ = nullptr;
      throw out_of_memory(bytes);
    }
    data_ = huge ? align(base_, kHugePage) : base_;
#if defined(MADV_HUGEPAGE)
    if (huge) madvise(data_, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);  // a hint: may fail
#endif
    return;
  }
#endif
  base_ = std::calloc(static_cast<size_t>(bytes + 2 * kAlignment), 1);
  if (!base_) throw out_of_memory(bytes);
  data_ = align(base_, kAlignment);
}

void MemoryBlock::release() {
  if (!base_) return;
#if LONGER_HAS_MMAP
  if (reserved_ > 0) {
    munmap(base_, static_cast<size_t>(reserved_));
    base_ = nullptr;
    return;
  }
#endif
  std::free(base_);
  base_ = nullptr;
}

void MemoryBlock::swap(MemoryBlock& other) {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(base_, other.base_);
  std::swap(reserved_, other.reserved_);
}

uint8_t* Arena::reserve(int64_t bytes) {
  if (!block_.data() || bytes > block_.bytes()) {
    const int64_t grown = block_.bytes() + block_.bytes() / 2;
    { MemoryBlock old = std::move(block_); }  // back to the system before more is asked for
    capacity_.store(0, std::memory_order_relaxed);
    // Untouched pages cost nothing, so growing ahead is free until they are used.
    block_ = MemoryBlock(std::max(bytes, std::min(grown, kLargest)));
    capacity_.store(block_.bytes(), std::memory_order_relaxed);
  }
  return static_cast<uint8_t*>(block_.data());
}

}  // namespace longer
