#include "plan/captured_runs.h"

namespace longer {

CapturedRuns::~CapturedRuns() {
  for (Entry& e : entries_) drop(e);
}

void CapturedRuns::drop(Entry& entry) noexcept {
  try {
    if (entry.graph.handle) device_->destroy(entry.graph);
  } catch (...) {  // of a device that failed; whoever ran on it was told
  }
  entry = Entry();
}

CapturedRuns::Found CapturedRuns::look(const Key& key) {
  size_t oldest = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& e = entries_[i];
    if (e.used > 0 && e.key == key) {
      current_ = i;
      e.used = ++clock_;
      return e.graph.handle ? Found::captured : Found::again;
    }
    if (e.used < entries_[oldest].used) oldest = i;
  }
  drop(entries_[oldest]);
  entries_[oldest].key = key;
  entries_[oldest].used = ++clock_;
  current_ = oldest;
  return Found::first;
}

void CapturedRuns::keep(CapturedGraph graph) { entries_[current_].graph = graph; }

}  // namespace longer
