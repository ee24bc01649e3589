// Runs the nodes of a compiled graph on a device: everything is queued on one stream, which is waited for once, at the end.
#pragma once
#include <cstdint>
#include <vector>

#include "plan/captured_runs.h"
#include "plan/graph.h"
#include "plan/memory_plan.h"
#include "runtime/device_lane.h"

namespace longer {

struct RunRequest;
struct RunOutcome;

class DeviceRunner {
 public:
  DeviceRunner(const CompiledGraph& graph, DeviceLane& lane, ThreadPool& pool);

  // Sends the inputs of a checked request to the device, beside the run that is under way: of `running`, whose outputs it must not
  // read. What cannot be sent yet is sent by run().
  void send_ahead(RunRequest& request, const RunRequest& running);

  // Of a checked request, whose values in host memory have no place in the arena: they go through a staging (exchange.h). Those in
  // device memory are read and written where they are. A cancelled run stops queueing. A run that is met again, with its sizes and
  // addresses, is captured and from then on launched as one graph; profiled runs, which wait after every node, and those that look for NaN and Inf are not.
  // Throws ERR_KERNEL naming the node for an id or index that is past what it reads; no optimizer of that run has stepped.
  void run(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome);

 private:
  void bind(const MemoryPlan& plan, const RunRequest& request, uint8_t* arena);
  void queue(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena);
  void queue_nodes(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena);
  void capture(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena);
  void run_node(int node, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome);
  int nodes() const { return static_cast<int>(graph_.nodes().size()); }

  const CompiledGraph& graph_;
  DeviceLane& lane_;
  ThreadPool& pool_;
  CapturedRuns captured_;
  CapturedRuns::Key key_;         // of the run under way
  std::vector<Tensor> bound_;     // a value each, with device memory
  std::vector<Tensor> operands_;  // of the node that is queued
};

}  // namespace longer
