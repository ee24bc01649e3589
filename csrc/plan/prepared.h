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

  // Part of a slab. Slabs are large enough for huge pages: a call that finds the caches full of other things reads every weight
  // once, and the walks through the page tables for each 4 KiB of them are a good part of that.
  class Form {
   public:
    Form(std::shared_ptr<MemoryBlock> slab, int64_t offset, int64_t bytes) : slab_(std::move(slab)), offset_(offset), bytes_(bytes) {}
    void* data() const { return static_cast<uint8_t*>(slab_->data()) + offset_; }
    int64_t bytes() const { return bytes_; }

   private:
    std::shared_ptr<MemoryBlock> slab_;
    int64_t offset_, bytes_;
  };
  using Held = std::shared_ptr<const Form>;

  // The form at `version`, filled now unless it is there. Any thread.
  Held get(const Key& key, uint64_t version, int64_t bytes, const std::function<void(void*)>& fill);

 private:
  struct Entry {
    uint64_t version = 0;
    std::shared_ptr<const Form> form;
  };
  Held allocate(int64_t bytes);

  std::mutex mutex_;
  std::map<Key, Entry> entries_;
  std::shared_ptr<MemoryBlock> slab_;  // the last one, which is taken from its beginning to its end
  int64_t used_ = 0;
};

}  // namespace longer
