// Runs a tiled node.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "plan/tile_plan.h"
#include "runtime/thread_pool.h"

namespace longer {

// Keeps what it needs from run to run: a steady step allocates nothing.
class TileRunner {
 public:
  explicit TileRunner(const CompiledGraph& graph) : graph_(graph) {}

  struct Task {
    int node;
    const TilePlan& plan;
    const std::vector<Tensor>& values;  // of the graph, with data
    uint8_t* memory;                    // of TilePlan::bytes()
    ThreadPool& pool;
    const void* const* prepared;        // a node of the body each: Call::prepared
    bool profile, check_finite;
    const std::atomic<bool>& cancelled;  // looked at before each tile
  };
  // Returns the first node of the body, by its place there, that gave a NaN or Inf; -1 for none.
  int run(const Task& task);
  // Microseconds that each node of the body took in the last profiled run, summed over workers.
  const std::vector<double>& times() const { return times_; }

 private:
  // Rows [begin, end) of the batch and what of its segments and groups they are.
  struct Range {
    int64_t begin, end, first_segment, segments, first_group, groups;
  };
  struct Worker {
    std::vector<Tensor> entries, operands;
    std::vector<double> times;
    int first_bad = -1;
  };

  void cut(const Task& task);
  Range range(const Task& task, int64_t begin, int64_t end) const;
  void prepare(const Task& task);
  void bind(const Task& task, Worker& worker, uint8_t* scratch, const Range& range) const;
  void run_tile(const Task& task, Worker& worker, uint8_t* scratch, uint8_t* partials, const Range& range, bool first) const;
  void add_up(const Task& task, const TilePlan::SumBlock& block, int64_t chunks) const;

  const CompiledGraph& graph_;
  std::vector<int64_t> bounds_;  // of tiles
  std::vector<Worker> workers_;
  std::vector<double> times_;
};

}  // namespace longer
