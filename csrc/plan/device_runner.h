// Runs the nodes of a compiled graph on a device: everything is queued on one stream, which is waited for once, at the end.
#pragma once
#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "plan/memory_plan.h"
#include "runtime/device_lane.h"

namespace longer {

struct Borrowed;
struct RunRequest;
struct RunOutcome;

class DeviceRunner {
 public:
  DeviceRunner(const CompiledGraph& graph, DeviceLane& lane, ThreadPool& pool);

  // Of a checked request whose inputs and outputs in host memory have a place in the arena: inputs are copied in, outputs that
  // somebody takes out (and in, where they are worked on in place), and values that the caller has in one array are one memory on the device too. Those in device memory
  // are read and written where they are. A cancelled run stops queueing. A profiled or checked one waits after every node.
  // Throws ERR_KERNEL naming the node for an id or index that is past what it reads; no optimizer of that run has stepped.
  void run(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome);

 private:
  void bind(const MemoryPlan& plan, uint8_t* arena);
  void bind_resident(const RunRequest& request);
  void join_shared(const RunRequest& request);
  void copy(const std::vector<int>& values, const std::vector<Borrowed>& arrays, bool in);
  void queue(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome, uint8_t* arena);
  void run_node(int node, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome);
  bool is_finite(int node, const Call& call);
  int nodes() const { return static_cast<int>(graph_.nodes().size()); }
  void wait() { lane_.device()->synchronize(lane_.stream()); }

  const CompiledGraph& graph_;
  DeviceLane& lane_;
  ThreadPool& pool_;
  std::vector<Tensor> bound_;     // a value each, with device memory
  std::vector<char> joined_;      // a value each: it is in the memory of another, and copied with that
  std::vector<char> begins_as_given_;  // a value each: inputs, and outputs that are worked on in place or shared with another value
  std::vector<Tensor> operands_;  // of the node that is queued
  int32_t fault_ = 0;             // the largest code stays: nodes() for the first node, 1 for the last
};

}  // namespace longer
