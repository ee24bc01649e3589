// Memory and work of a tiled node, for one vector of sizes.
#pragma once
#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "plan/placer.h"

namespace longer {

// The rows are cut into tiles, consecutive tiles make a chunk, a worker runs a chunk. What is summed over rows is summed
// over the tiles of a chunk, then over the chunks, both in ascending order. How many rows and chunks there are is a
// function of sizes alone, so that results do not depend on the number of workers.
//
// Memory: a scratch for every worker, then a row of partial sums for every chunk.
class TilePlan {
 public:
  struct Entry {
    Tensor shape;           // the whole value's, without data
    int64_t row_bytes = 0;  // of its first dimension
    int64_t extra = 0;      // rows that it has more than the tile
    int64_t scratch = -1;   // offset in the scratch
    int64_t partial = -1;   // offset in the partial sums
  };
  struct SumBlock {  // elements that a worker adds up at a time
    int entry;
    int64_t from, count;
  };

  // `tensors`: shapes of all values of the graph.
  void build(const CompiledGraph& graph, int node, const std::vector<Tensor>& tensors, const std::vector<double>& sizes, int workers);

  int64_t bytes() const { return workers_ * scratch_bytes_ + chunks_ * partial_bytes_; }
  int64_t rows() const { return rows_; }
  int64_t tile_rows() const { return tile_rows_; }
  int64_t chunks() const { return chunks_; }  // at most
  const Entry& entry(int i) const { return entries_[static_cast<size_t>(i)]; }
  int64_t workspace(int n) const { return workspaces_[static_cast<size_t>(n)]; }  // offset in the scratch; -1 for none
  const std::vector<SumBlock>& sums() const { return sums_; }
  int64_t scratch_of(int worker) const { return worker * scratch_bytes_; }
  int64_t partials_of(int64_t chunk) const { return workers_ * scratch_bytes_ + chunk * partial_bytes_; }

  // The entry's shape for a tile.
  Tensor shape(int i, TileRole role, int64_t rows, int64_t segments, int64_t groups) const;

 private:
  void place_scratch(const CompiledGraph& graph, int node);
  int64_t workspace_bytes(const CompiledGraph& graph, int node, int n);

  const TileBody* body_ = nullptr;
  int workers_ = 1;
  int64_t rows_ = 0, tile_rows_ = 0, chunks_ = 0, scratch_bytes_ = 0, partial_bytes_ = 0;
  std::vector<Entry> entries_;
  std::vector<int64_t> workspaces_;
  std::vector<SumBlock> sums_;
  std::vector<Block> blocks_;
  std::vector<int> entry_block_, workspace_block_;
  std::vector<Tensor> operands_;
  BlockPlacer placer_;
};

}  // namespace longer
