// Places blocks of memory by their lifetimes.
#pragma once
#include <cstdint>
#include <vector>

namespace longer {

// Memory needed from the start of node `first` to the end of node `last`.
struct Block {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
  int64_t offset = 0;
};

// Offsets of blocks so that no two that live at the same time overlap: largest first, each into the tightest gap.
// Keeps its vectors, so that planning again allocates nothing.
class BlockPlacer {
 public:
  int64_t place(std::vector<Block>& blocks);  // bytes of the arena

 private:
  std::vector<int> by_size_, by_offset_;
};

}  // namespace longer
