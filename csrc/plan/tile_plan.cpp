#include "plan/tile_plan.h"

#include <algorithm>

#include "runtime/arena.h"

namespace longer {

namespace {
constexpr int64_t kMostChunks = 64;
constexpr int64_t kPartialBytes = int64_t{8} << 20;  // partial sums are to stay about this size
constexpr int64_t kSumBlock = 2048;
}  // namespace

Tensor TilePlan::shape(int i, TileRole role, int64_t rows, int64_t segments, int64_t groups) const {
  const Entry& entry = entries_[static_cast<size_t>(i)];
  Tensor t = entry.shape;
  switch (role) {
    case TileRole::inner:
    case TileRole::row: t.dim[0] = rows + entry.extra; break;
    case TileRole::segment: t.dim[0] = segments; break;
    case TileRole::group: t.dim[0] = groups; break;
    case TileRole::offsets:
    case TileRole::group_offsets: t.dim[0] = segments + 1; break;
    case TileRole::whole:
    case TileRole::sum: break;
  }
  return t;
}

void TilePlan::build(const CompiledGraph& graph, int node, const std::vector<Tensor>& tensors, const std::vector<double>& sizes, int workers) {
  body_ = graph.tile(node);
  const Tile& tile = *body_->tile;
  workers_ = workers;
  rows_ = static_cast<int64_t>(sizes[static_cast<size_t>(tile.symbol)]);
  tile_rows_ = std::min(rows_, std::max(tile.rows, tile.group_size));

  entries_.assign(tile.roles.size(), {});
  partial_bytes_ = 0;
  sums_.clear();
  for (size_t i = 0; i < tile.roles.size(); ++i) {
    const auto [v, role] = tile.roles[i];
    Entry& entry = entries_[i];
    entry.shape = tensors[static_cast<size_t>(v)];
    entry.row_bytes = entry.shape.cols() * dtype_size(entry.shape.dtype);
    if (role == TileRole::row) entry.extra = entry.shape.rows() - rows_;
    if (role != TileRole::sum) continue;
    entry.partial = partial_bytes_;
    partial_bytes_ += align_up(entry.shape.bytes());
    for (int64_t from = 0; from < entry.shape.size(); from += kSumBlock)
      sums_.push_back({static_cast<int>(i), from, std::min(kSumBlock, entry.shape.size() - from)});
  }
  // A tile that is not the last has more rows than this.
  const int64_t fewest = std::max<int64_t>(1, tile_rows_ - tile.group_size + 1);
  const int64_t most = partial_bytes_ == 0 ? kMostChunks : std::clamp(kPartialBytes / partial_bytes_, kMostChunks / 4, kMostChunks);
  chunks_ = std::min(most, (rows_ + fewest - 1) / fewest);
  place_scratch(graph, node);
}

void TilePlan::place_scratch(const CompiledGraph& graph, int node) {
  const Tile& tile = *body_->tile;
  const int nodes = static_cast<int>(tile.body.size());
  blocks_.clear();
  entry_block_.assign(entries_.size(), -1);
  workspace_block_.assign(static_cast<size_t>(nodes), -1);
  const auto add = [this](int& block, int64_t bytes, int first, int last) {
    if (bytes <= 0) return;
    block = static_cast<int>(blocks_.size());
    blocks_.push_back({align_up(bytes), first, last, 0});
  };
  for (size_t i = 0; i < entries_.size(); ++i) {
    const TileRole role = tile.roles[i].second;
    const auto [first, last] = body_->use[i];
    if (role == TileRole::inner) add(entry_block_[i], tile_rows_ * entries_[i].row_bytes, first, last);
    if (role == TileRole::sum) add(entry_block_[i], entries_[i].shape.bytes(), first, last);
    if (role == TileRole::offsets || role == TileRole::group_offsets) add(entry_block_[i], entries_[i].shape.bytes(), 0, nodes - 1);
  }
  for (int n = 0; n < nodes; ++n) add(workspace_block_[static_cast<size_t>(n)], workspace_bytes(graph, node, n), n, n);
  scratch_bytes_ = scratch_size(placer_.place(blocks_), workers_);
  const auto offset = [this](int block) { return block < 0 ? int64_t{-1} : blocks_[static_cast<size_t>(block)].offset; };
  for (size_t i = 0; i < entries_.size(); ++i) entries_[i].scratch = offset(entry_block_[i]);
  workspaces_.resize(static_cast<size_t>(nodes));
  for (size_t n = 0; n < workspaces_.size(); ++n) workspaces_[n] = offset(workspace_block_[n]);
}

int64_t TilePlan::workspace_bytes(const CompiledGraph& graph, int node, int n) {
  operands_.clear();
  for (int e : body_->operands[static_cast<size_t>(n)])
    operands_.push_back(e < 0 ? Tensor{} : shape(e, body_->tile->roles[static_cast<size_t>(e)].second, tile_rows_, tile_rows_, tile_rows_));
  const int leaf = graph.first_leaf(node) + n;
  return graph.workspace_of(leaf, graph.call_of(leaf, operands_.data(), one_thread()));
}

}  // namespace longer
