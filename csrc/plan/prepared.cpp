#include "plan/prepared.h"

namespace longer {

PreparedWeights::Held PreparedWeights::get(const Key& key, uint64_t version, int64_t bytes, const std::function<void(void*)>& fill) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = entries_[key];
  if (entry.version == version) return entry.block;
  entry.version = 0;  // should fill throw
  if (!entry.block || entry.block.use_count() > 1 || entry.block->bytes() != bytes) entry.block = std::make_shared<MemoryBlock>(bytes);
  fill(entry.block->data());
  entry.version = version;
  return entry.block;
}

}  // namespace longer
