// Weights in the form that kernels read (Op::prepare), held once for all plans of a state until the weights change.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "runtime/arena.h"

namespace longer {

class PreparedWeights {
 public:
  using Key = std::tuple<std::string, std::string, int64_t, int64_t, int64_t, int>;  // op, store, offset, rows, columns, type of the other operand
  using Held = std::shared_ptr<const MemoryBlock>;

  // The form at `version`, filled now unless it is there. Any thread.
  Held get(const Key& key, uint64_t version, int64_t bytes, const std::function<void(void*)>& fill);

 private:
  struct Entry {
    uint64_t version = 0;
    std::shared_ptr<MemoryBlock> block;
  };
  std::mutex mutex_;
  std::map<Key, Entry> entries_;
};

}  // namespace longer
