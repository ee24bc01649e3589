#include "plan/tile_runner.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "plan/finite.h"
#include "runtime/error.h"

namespace longer {

namespace {
using Clock = std::chrono::steady_clock;

template <class T>
void add_to(void* to, const void* from, int64_t count) {
  T* sum = static_cast<T*>(to);
  const T* term = static_cast<const T*>(from);
  for (int64_t i = 0; i < count; ++i) sum[i] += term[i];
}

void add_to(DType dtype, void* to, const void* from, int64_t count) {
  if (dtype == DType::f64) add_to<double>(to, from, count);
  else add_to<float>(to, from, count);
}

// Groups from the beginning of segment s to row `at` of it, counted over all segments.
int64_t group_at(const int32_t* offsets, const int32_t* group_offsets, int64_t size, int64_t s, int64_t at) {
  return group_offsets[s + 1] - (offsets[s + 1] - at + size - 1) / size;
}
}  // namespace

int TileRunner::run(const Task& task) {
  cut(task);
  prepare(task);
  const int64_t tiles = static_cast<int64_t>(bounds_.size()) - 1;
  const int64_t chunks = std::min(task.plan.chunks(), tiles);
  task.pool.parallel_for(chunks, [&](int64_t chunk, int w) {
    uint8_t* scratch = task.memory + task.plan.scratch_of(w);
    uint8_t* partials = task.memory + task.plan.partials_of(chunk);
    const int64_t begin = chunk * tiles / chunks, end = (chunk + 1) * tiles / chunks;
    for (int64_t t = begin; t < end && !task.cancelled.load(std::memory_order_relaxed); ++t) {
      const Range r = range(task, bounds_[static_cast<size_t>(t)], bounds_[static_cast<size_t>(t) + 1]);
      Worker& worker = workers_[static_cast<size_t>(w)];
      bind(task, worker, scratch, r);
      run_tile(task, worker, scratch, partials, r, t == begin);
    }
  });
  const auto& sums = task.plan.sums();
  if (!task.cancelled.load(std::memory_order_relaxed))
    task.pool.parallel_for(static_cast<int64_t>(sums.size()), [&](int64_t s, int) { add_up(task, sums[static_cast<size_t>(s)], chunks); });
  int first_bad = -1;
  for (const Worker& worker : workers_) {
    for (size_t n = 0; n < worker.times.size(); ++n) times_[n] += worker.times[n];
    if (worker.first_bad >= 0 && (first_bad < 0 || worker.first_bad < first_bad)) first_bad = worker.first_bad;
  }
  return first_bad;
}

// Tiles as long as may be, each ending at a border of groups.
void TileRunner::cut(const Task& task) {
  const TileBody& body = *graph_.tile(task.node);
  const Tile& tile = *body.tile;
  const int64_t rows = task.plan.rows();
  bounds_.assign(1, 0);
  if (body.offsets < 0) {
    for (int64_t at = 0; at < rows;) bounds_.push_back(at = std::min(rows, at + task.plan.tile_rows()));
    return;
  }
  const Tensor& given = task.values[static_cast<size_t>(tile.offsets)];
  const int32_t* offsets = given.i32();
  const int64_t segments = given.rows() - 1;
  const auto fail = [&](const char* what) { return Error("ERR_KERNEL", graph_.nodes()[static_cast<size_t>(task.node)].name + ": " + what); };
  if (segments < 0 || offsets[0] != 0 || offsets[segments] != rows) throw fail("the offsets do not cover the rows");
  for (int64_t s = 0; s < segments; ++s)
    if (offsets[s + 1] < offsets[s]) throw fail("the offsets do not ascend");
  if (body.group_offsets >= 0) {
    const int32_t* groups = task.values[static_cast<size_t>(tile.group_offsets)].i32();
    for (int64_t s = 0; s < segments; ++s)
      if (groups[s] != group_at(offsets, groups, tile.group_size, s, offsets[s])) throw fail("a segment has another number of groups");
  }
  for (int64_t at = 0; at < rows; bounds_.push_back(at)) {
    const int64_t reach = at + task.plan.tile_rows();
    if (reach >= rows) {
      at = rows;
      continue;
    }
    // The last border that is in reach, of the segment that `reach` lies in.
    const int64_t s = std::upper_bound(offsets, offsets + segments + 1, reach) - offsets - 1;
    const int64_t left = (offsets[s + 1] - reach + tile.group_size - 1) / tile.group_size * tile.group_size;
    at = std::max<int64_t>(offsets[s], offsets[s + 1] - left);
  }
}

TileRunner::Range TileRunner::range(const Task& task, int64_t begin, int64_t end) const {
  Range r{begin, end, 0, 0, 0, 0};
  const TileBody& body = *graph_.tile(task.node);
  const Tile& tile = *body.tile;
  if (body.offsets < 0) return r;
  const Tensor& given = task.values[static_cast<size_t>(tile.offsets)];
  const int32_t* offsets = given.i32();
  r.first_segment = std::upper_bound(offsets, offsets + given.rows(), begin) - offsets - 1;
  const int64_t last = std::lower_bound(offsets, offsets + given.rows(), end) - offsets;
  r.segments = last - r.first_segment;
  if (body.group_offsets < 0) return r;
  const int32_t* groups = task.values[static_cast<size_t>(tile.group_offsets)].i32();
  r.first_group = group_at(offsets, groups, tile.group_size, r.first_segment, begin);
  r.groups = group_at(offsets, groups, tile.group_size, last - 1, end) - r.first_group;
  return r;
}

void TileRunner::prepare(const Task& task) {
  const size_t nodes = graph_.tile(task.node)->tile->body.size();
  workers_.resize(static_cast<size_t>(task.pool.size()));
  for (Worker& worker : workers_) {
    worker.operands.resize(static_cast<size_t>(graph_.most_operands()));
    worker.times.assign(task.profile ? nodes : 0, 0.0);
    worker.first_bad = -1;
  }
  times_.assign(task.profile ? nodes : 0, 0.0);
}

void TileRunner::bind(const Task& task, Worker& worker, uint8_t* scratch, const Range& r) const {
  const TileBody& body = *graph_.tile(task.node);
  const Tile& tile = *body.tile;
  worker.entries.resize(tile.roles.size());
  const int32_t* offsets = body.offsets < 0 ? nullptr : task.values[static_cast<size_t>(tile.offsets)].i32();
  for (size_t i = 0; i < tile.roles.size(); ++i) {
    const auto [v, role] = tile.roles[i];
    const TilePlan::Entry& entry = task.plan.entry(static_cast<int>(i));
    Tensor& t = worker.entries[i];
    t = task.plan.shape(static_cast<int>(i), role, r.end - r.begin, r.segments, r.groups);
    const Tensor& value = task.values[static_cast<size_t>(v)];
    char* whole = static_cast<char*>(value.data);
    switch (role) {
      case TileRole::inner:
      case TileRole::sum: t.data = scratch + entry.scratch; break;
      case TileRole::whole: t.data = whole; break;
      case TileRole::row: t.data = whole + r.begin * entry.row_bytes; break;
      case TileRole::segment: t.data = whole + r.first_segment * entry.row_bytes; break;
      case TileRole::group: t.data = whole + r.first_group * entry.row_bytes; break;
      case TileRole::offsets:
        t.data = scratch + entry.scratch;
        for (int64_t s = 0; s <= r.segments; ++s)
          t.i32()[s] = static_cast<int32_t>(std::clamp<int64_t>(offsets[r.first_segment + s], r.begin, r.end) - r.begin);
        break;
      case TileRole::group_offsets:
        t.data = scratch + entry.scratch;
        t.i32()[0] = 0;
        for (int64_t s = 1; s <= r.segments; ++s) {
          const int64_t segment = r.first_segment + s - 1, at = std::min<int64_t>(offsets[segment + 1], r.end);
          t.i32()[s] = static_cast<int32_t>(group_at(offsets, value.i32(), tile.group_size, segment, at) - r.first_group);
        }
        break;
    }
  }
}

void TileRunner::run_tile(const Task& task, Worker& worker, uint8_t* scratch, uint8_t* partials, const Range& r, bool first) const {
  const TileBody& body = *graph_.tile(task.node);
  for (size_t n = 0; n < body.operands.size(); ++n) {
    const Node& node = body.tile->body[n];
    const int leaf = graph_.first_leaf(task.node) + static_cast<int>(n);
    const std::vector<int>& operands = body.operands[n];
    for (size_t i = 0; i < operands.size(); ++i) {
      Tensor& t = worker.operands[i];
      t = operands[i] < 0 ? Tensor{} : worker.entries[static_cast<size_t>(operands[i])];
      // The first tile of a chunk writes where the others are added.
      if (operands[i] >= 0 && first && task.plan.entry(operands[i]).partial >= 0) t.data = partials + task.plan.entry(operands[i]).partial;
    }
    Call call = graph_.call_of(leaf, worker.operands.data(), one_thread());
    call.first_row = r.begin;
    call.prepared = task.prepared[n];
    const int64_t workspace = task.plan.workspace(static_cast<int>(n));
    if (workspace >= 0) call.workspace = scratch + workspace;
    const auto before = task.profile ? Clock::now() : Clock::time_point{};
    graph_.run_leaf(leaf, call);
    if (task.check_finite && (worker.first_bad < 0 || static_cast<int>(n) < worker.first_bad) && 
        !outputs_are_finite(*graph_.leaves()[static_cast<size_t>(leaf)].op, call))
      worker.first_bad = static_cast<int>(n);
    if (!first)
      for (size_t i = node.inputs.size(); i < operands.size(); ++i) {
        const int64_t partial = operands[i] < 0 ? -1 : task.plan.entry(operands[i]).partial;
        if (partial >= 0) add_to(worker.operands[i].dtype, partials + partial, worker.operands[i].data, worker.operands[i].size());
      }
    if (task.profile) worker.times[n] += std::chrono::duration<double, std::micro>(Clock::now() - before).count();
  }
}

void TileRunner::add_up(const Task& task, const TilePlan::SumBlock& block, int64_t chunks) const {
  const TilePlan::Entry& entry = task.plan.entry(block.entry);
  const Tensor& out = task.values[static_cast<size_t>(graph_.tile(task.node)->tile->roles[static_cast<size_t>(block.entry)].first)];
  const int64_t size = dtype_size(out.dtype);
  char* to = static_cast<char*>(out.data) + block.from * size;
  const auto partial = [&](int64_t chunk) { return task.memory + task.plan.partials_of(chunk) + entry.partial + block.from * size; };
  if (chunks == 0) std::memset(to, 0, static_cast<size_t>(block.count * size));
  else std::memcpy(to, partial(0), static_cast<size_t>(block.count * size));
  for (int64_t c = 1; c < chunks; ++c) add_to(out.dtype, to, partial(c), block.count);
}

}  // namespace longer
