// What goes through memory: accesses that are counted, asynchronous copies.
#include <algorithm>
#include <set>

#include "simt/machine_state.h"

namespace simt {

namespace {

// A call through these is a call of the sanitizers' versions, which check and record the access.
void* (*volatile copy_bytes)(void*, const void*, size_t) = std::memcpy;
void* (*volatile set_bytes)(void*, int, size_t) = std::memset;

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

}  // namespace

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
