#include "plan/run_times.h"

#include <algorithm>
#include <functional>

namespace longer {

void RunTimes::note(const std::vector<double>& sizes, double microseconds) {
  const auto same = [&](const Seen& s) { return s.used > 0 && s.sizes == sizes; };
  auto entry = std::find_if(seen_.begin(), seen_.end(), same);
  if (entry == seen_.end()) entry = std::min_element(seen_.begin(), seen_.end(), [](const Seen& a, const Seen& b) { return a.used < b.used; });
  entry->sizes.assign(sizes.begin(), sizes.end());
  entry->microseconds = microseconds;
  entry->used = ++clock_;
}

bool RunTimes::below(const std::vector<double>& sizes, double limit) const {
  bool larger_was = false;
  for (const Seen& s : seen_) {
    if (s.used == 0) continue;
    if (s.sizes == sizes) return s.microseconds < limit;
    larger_was |= s.microseconds < limit && std::equal(sizes.begin(), sizes.end(), s.sizes.begin(), s.sizes.end(), std::less_equal<double>());
  }
  return larger_was;
}

}  // namespace longer
