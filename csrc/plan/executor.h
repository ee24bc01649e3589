// Runs a compiled graph: one after another of its nodes, on the thread and the arena of a runtime, or on its device.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plan/device_runner.h"
#include "plan/graph.h"
#include "plan/memory_plan.h"
#include "plan/run_times.h"
#include "plan/tile_runner.h"
#include "runtime/worker.h"

namespace longer {

// Memory of the caller, element type and count as the caller has them.
struct Borrowed {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t count = 0;
  bool absent = true;  // an output that nobody takes
  std::shared_ptr<const DeviceMemory> memory = nullptr;  // that `data` is in, 256-byte aligned; null: the host's
};

class Exchange;

struct RunRequest {
  std::vector<double> sizes;
  std::vector<Borrowed> inputs, outputs;  // in the order of the graph's input and output values
  bool profile = false;
  bool check_finite = false;
  std::atomic<bool> cancelled{false};  // looked at between nodes and between tiles, until the state is being updated
  std::shared_ptr<Exchange> exchange;  // on a device, from when its inputs are sent until it has run
};

struct RunOutcome {
  double elapsed = 0;  // microseconds
  bool cancelled = false;
  // By leaf of the graph. Times in microseconds, when profiled; the nodes of a tile share what it took.
  std::vector<double> times;
  int first_non_finite = -1;
};

struct MemoryPromise {
  int64_t arena = 0;
  std::vector<std::pair<std::string, int64_t>> largest;
};

class Executor {
 public:
  Executor(GraphDescription graph, std::shared_ptr<State> state, std::shared_ptr<Runtime> runtime, Backend backend);

  const CompiledGraph& graph() const { return graph_; }
  Runtime& runtime() const { return *runtime_; }
  State& state() const { return *state_; }

  // Names, types and counts of a request against the graph; throws what the caller should read. Any thread.
  void check(const RunRequest& request) const;
  // What a run takes when the caller gives every output, and floats as f64 to the reference backend. Any one thread
  // that is not the runtime's, alongside runs.
  MemoryPromise promise(const std::vector<double>& sizes);
  // On the runtime's thread, or one that has entered the runtime: of a checked request, and what such a run may be expected to take.
  void run(RunRequest& request, RunOutcome& outcome);
  // While another request runs: what can be done ahead of run(), on the same thread.
  void prepare(RunRequest& request, const RunRequest& running);
  bool is_short(const RunRequest& request, double microseconds) const { return times_.below(request.sizes, microseconds); }

 private:
  static constexpr size_t kCachedPlans = 8;
  struct Cached {
    MemoryPlan plan;
    uint64_t used = 0;
  };

  Placement placement_of(const RunRequest& request) const;
  const MemoryPlan& plan_for(const RunRequest& request);
  void bind(const MemoryPlan& plan, const RunRequest& request, uint8_t* arena);
  void copy_in(const RunRequest& request);
  void copy_out(const RunRequest& request);
  void hold_prepared(const MemoryPlan& plan);
  void prepare_weights(int leaf, const Node& node, const Op& op, uint64_t version, const MemoryPlan& plan);
  Call call_of(int node, const MemoryPlan& plan, uint8_t* arena);
  void run_node(int node, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome);
  void run_tiles(int node, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome);

  std::shared_ptr<State> state_;
  std::shared_ptr<Runtime> runtime_;
  CompiledGraph graph_;
  std::array<Cached, kCachedPlans> cache_;  // least recently used goes first
  uint64_t clock_ = 0;
  Placement wanted_;
  std::vector<Tensor> bound_;     // a value each, with data
  std::vector<Tensor> operands_;  // of the node that runs
  // A leaf each, of a plan that writes no weights: what was prepared of them, and of which version of the state.
  std::vector<PreparedWeights::Held> held_;
  std::vector<const void*> prepared_;
  uint64_t prepared_version_ = 0;
  RunTimes times_;
  bool shares_loops_ = false;  // the last run dealt work to other threads
  TileRunner tiles_;
  std::unique_ptr<DeviceRunner> device_;  // of the cuda backend: runs what the rest of this class runs on the CPU
  MemoryPlan promised_;
};

}  // namespace longer
