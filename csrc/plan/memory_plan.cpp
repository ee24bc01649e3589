#include "plan/memory_plan.h"

#include <algorithm>

#include "runtime/arena.h"
#include "runtime/error.h"

namespace longer {

void MemoryPlan::build(const CompiledGraph& graph, const std::vector<double>& sizes, const Placement& placement, ThreadPool& pool) {
  built_ = false;
  sizes_ = sizes;
  placement_ = placement;
  const size_t values = graph.values().size();
  tensors_.resize(values);
  for (size_t v = 0; v < values; ++v) tensors_[v] = graph.shape(static_cast<int>(v), sizes);
  blocks_.clear();
  add_values(graph);
  add_workspaces(graph, pool);
  bytes_ = placer_.place(blocks_);
  built_ = true;
}

void MemoryPlan::add_values(const CompiledGraph& graph) {
  const int end = static_cast<int>(graph.nodes().size());  // after the last node
  value_block_.assign(graph.values().size(), -1);
  const auto add = [&](int v, int first, int last) {
    value_block_[static_cast<size_t>(v)] = static_cast<int>(blocks_.size());
    blocks_.push_back({align_up(tensors_[static_cast<size_t>(v)].bytes(), graph.alignment()), first, last, 0});
  };
  for (int v = 0; v < static_cast<int>(graph.values().size()); ++v)
    if (graph.values()[static_cast<size_t>(v)].place == Place::arena && graph.use(v).first >= 0)
      add(v, graph.use(v).first, graph.use(v).last);
  for (size_t i = 0; i < graph.inputs().size(); ++i)
    if (placement_.inputs[i]) add(graph.inputs()[i], -1, graph.use(graph.inputs()[i]).last);
  for (size_t i = 0; i < graph.outputs().size(); ++i)
    if (placement_.outputs[i]) add(graph.outputs()[i], -1, end);
}

void MemoryPlan::add_workspaces(const CompiledGraph& graph, ThreadPool& pool) {
  const int nodes = static_cast<int>(graph.nodes().size());
  node_block_.assign(static_cast<size_t>(nodes), -1);
  operands_.resize(static_cast<size_t>(graph.most_operands()));
  tiles_.resize(static_cast<size_t>(nodes));
  const auto add = [&](int n, int64_t bytes) {
    if (bytes <= 0) return;
    node_block_[static_cast<size_t>(n)] = static_cast<int>(blocks_.size());
    blocks_.push_back({align_up(bytes, graph.alignment()), n, n, 0});
  };
  for (int n = 0; n < nodes; ++n) {
    if (graph.tile(n)) {
      TilePlan& tile = tiles_[static_cast<size_t>(n)];
      tile.build(graph, n, tensors_, sizes_, pool.size());
      add(n, tile.bytes());
      continue;
    }
    const Node& node = graph.nodes()[static_cast<size_t>(n)];
    Tensor* next = operands_.data();
    for (const auto* list : {&node.inputs, &node.outputs})
      for (int v : *list) *next++ = v < 0 ? Tensor{} : tensors_[static_cast<size_t>(v)];
    const int leaf = graph.first_leaf(n);
    add(n, graph.workspace_of(leaf, graph.call_of(leaf, operands_.data(), pool)));
  }
}

std::vector<std::pair<std::string, int64_t>> MemoryPlan::largest(const CompiledGraph& graph, size_t count) const {
  std::vector<std::pair<std::string, int64_t>> all;
  for (size_t v = 0; v < value_block_.size(); ++v)
    if (value_block_[v] >= 0) all.emplace_back(graph.values()[v].name, blocks_[static_cast<size_t>(value_block_[v])].bytes);
  for (size_t n = 0; n < node_block_.size(); ++n)
    if (node_block_[n] >= 0) all.emplace_back("workspace of " + graph.nodes()[n].name, blocks_[static_cast<size_t>(node_block_[n])].bytes);
  const size_t kept = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const auto& a, const auto& b) { return a.second > b.second; });
  all.resize(kept);
  return all;
}

}  // namespace longer
