#include "plan/prepared.h"

#include <algorithm>

namespace longer {

namespace {
constexpr int64_t kSlab = int64_t{8} << 20;
}

PreparedWeights::Held PreparedWeights::get(const Key& key, uint64_t version, int64_t bytes, const std::function<void(void*)>& fill) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = entries_[key];
  if (entry.version == version) return entry.form;
  entry.version = 0;  // should fill throw
  if (!entry.form || entry.form.use_count() > 1 || entry.form->bytes() != bytes) {
    entry.form.reset();
    entry.form = allocate(bytes);
  }
  fill(entry.form->data());
  entry.version = version;
  return entry.form;
}

PreparedWeights::Held PreparedWeights::allocate(int64_t bytes) {
  const int64_t size = align_up(bytes) + kAlignment;  // vector loads may run past the end
  if (!slab_ || used_ + size > slab_->bytes()) {
    slab_ = std::make_shared<MemoryBlock>(std::max(kSlab, size));
    used_ = 0;
  }
  auto form = std::make_shared<const Form>(slab_, used_, bytes);
  used_ += size;
  return form;
}

}  // namespace longer
