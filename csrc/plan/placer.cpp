#include "plan/placer.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace longer {

int64_t BlockPlacer::place(std::vector<Block>& blocks) {
  by_size_.resize(blocks.size());
  std::iota(by_size_.begin(), by_size_.end(), 0);
  std::sort(by_size_.begin(), by_size_.end(), [&](int a, int b) {
    const Block &x = blocks[static_cast<size_t>(a)], &y = blocks[static_cast<size_t>(b)];
    return x.bytes != y.bytes ? x.bytes > y.bytes : a < b;
  });
  by_offset_.clear();
  by_offset_.reserve(blocks.size());
  int64_t peak = 0;
  for (int index : by_size_) {
    Block& block = blocks[static_cast<size_t>(index)];
    block.offset = 0;
    if (block.bytes == 0) continue;
    int64_t end = 0;  // of what is placed so far, from the bottom
    int64_t best = -1, tightest = std::numeric_limits<int64_t>::max();
    for (int other_index : by_offset_) {
      const Block& other = blocks[static_cast<size_t>(other_index)];
      if (other.last < block.first || other.first > block.last) continue;
      const int64_t gap = other.offset - end;
      if (gap >= block.bytes && gap < tightest) {
        tightest = gap;
        best = end;
      }
      end = std::max(end, other.offset + other.bytes);
    }
    block.offset = best >= 0 ? best : end;
    peak = std::max(peak, block.offset + block.bytes);
    const auto at = std::upper_bound(by_offset_.begin(), by_offset_.end(), block.offset,
                                     [&](int64_t offset, int i) { return offset < blocks[static_cast<size_t>(i)].offset; });
    by_offset_.insert(at, index);
  }
  return peak;
}

}  // namespace longer
