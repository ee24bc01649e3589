// Where every value and workspace of a run lives in the arena, for one vector of sizes.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plan/graph.h"
#include "plan/placer.h"
#include "plan/tile_plan.h"

namespace longer {

// Which inputs and outputs need a place in the arena: converted ones, and outputs that nobody takes.
struct Placement {
  std::vector<char> inputs, outputs;
  bool operator==(const Placement& other) const { return inputs == other.inputs && outputs == other.outputs; }
};

class MemoryPlan {
 public:
  // Works out shapes, workspaces and offsets; the sizes are checked ones. Reuses what it held before.
  void build(const CompiledGraph& graph, const std::vector<double>& sizes, const Placement& placement, ThreadPool& pool);

  bool is_for(const std::vector<double>& sizes, const Placement& placement) const {
    return built_ && sizes_ == sizes && placement_ == placement;
  }
  const Tensor& tensor(int value) const { return tensors_[static_cast<size_t>(value)]; }  // data is null
  int64_t offset(int value) const { return offset_of(value_block_[static_cast<size_t>(value)]); }
  int64_t workspace_offset(int node) const { return offset_of(node_block_[static_cast<size_t>(node)]); }  // -1: none
  const TilePlan& tile(int node) const { return tiles_[static_cast<size_t>(node)]; }  // its memory is the node's workspace
  int64_t arena_bytes() const { return bytes_; }

  // Name and bytes of the largest values and workspaces, descending.
  std::vector<std::pair<std::string, int64_t>> largest(const CompiledGraph& graph, size_t count) const;

 private:
  void add_values(const CompiledGraph& graph);
  void add_workspaces(const CompiledGraph& graph, ThreadPool& pool);
  int64_t offset_of(int block) const { return block < 0 ? -1 : blocks_[static_cast<size_t>(block)].offset; }

  bool built_ = false;
  std::vector<double> sizes_;
  Placement placement_;
  std::vector<Tensor> tensors_;
  std::vector<Tensor> operands_;
  std::vector<Block> blocks_;
  std::vector<TilePlan> tiles_;               // a node each, of tiled ones
  std::vector<int> value_block_, node_block_;  // index into blocks_, -1 for none
  BlockPlacer placer_;
  int64_t bytes_ = 0;
};

}  // namespace longer
