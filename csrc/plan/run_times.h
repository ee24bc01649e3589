// How long the last runs of a plan took, by their sizes.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace longer {

class RunTimes {
 public:
  void note(const std::vector<double>& sizes, double microseconds);
  // Whether a run of these sizes took less than `limit` when it was last seen; where it was not, whether one did that was
  // smaller in no size.
  bool below(const std::vector<double>& sizes, double limit) const;

 private:
  struct Seen {
    std::vector<double> sizes;
    double microseconds = 0;
    uint64_t used = 0;
  };
  std::array<Seen, 8> seen_;  // least recently used goes first
  uint64_t clock_ = 0;
};

}  // namespace longer
