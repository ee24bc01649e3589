// Runs of a plan that are launched again as one: a graph of kernels for each set of sizes and addresses.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/device.h"

namespace longer {

class CapturedRuns {
 public:
  explicit CapturedRuns(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  ~CapturedRuns();
  CapturedRuns(const CapturedRuns&) = delete;
  CapturedRuns& operator=(const CapturedRuns&) = delete;

  // All that a run's kernels are launched with but for what is the same in every run of the plan.
  struct Key {
    std::vector<double> sizes;
    std::vector<const void*> addresses;
    bool operator==(const Key& other) const { return sizes == other.sizes && addresses == other.addresses; }
  };
  enum class Found { first, again, captured };
  // How the run was met before. `again`: it is worth capturing; whoever does so keeps the graph.
  Found look(const Key& key);
  void keep(CapturedGraph graph);  // of the key that was looked for last
  CapturedGraph graph() const { return entries_[current_].graph; }

 private:
  struct Entry {
    Key key;
    CapturedGraph graph;
    uint64_t used = 0;
  };
  void drop(Entry& entry) noexcept;

  std::shared_ptr<Device> device_;
  std::array<Entry, 8> entries_;  // used longest ago goes first
  size_t current_ = 0;
  uint64_t clock_ = 0;
};

}  // namespace longer
