#include "plan/device_runner.h"

#include <chrono>

#include "kernels/cuda/kernels.h"
#include "plan/exchange.h"
#include "plan/executor.h"
#include "runtime/error.h"

namespace longer {

DeviceRunner::DeviceRunner(const CompiledGraph& graph, DeviceLane& lane, ThreadPool& pool) : graph_(graph), lane_(lane), pool_(pool), captured_(lane.device()) {
  bound_.resize(graph_.values().size());
  operands_.resize(static_cast<size_t>(graph_.most_operands()));
}

void DeviceRunner::bind(const MemoryPlan& plan, const RunRequest& request, uint8_t* arena) {
  for (size_t v = 0; v < bound_.size(); ++v) {
    const int value = static_cast<int>(v);
    bound_[v] = plan.tensor(value);
    if (plan.offset(value) >= 0) bound_[v].data = arena + plan.offset(value);
    else if (graph_.values()[v].place == Place::store) bound_[v].data = graph_.store_data(value);
    else bound_[v].data = request.exchange->data(value);
  }
  const auto resident = [&](const std::vector<int>& values, const std::vector<Borrowed>& arrays) {
    for (size_t i = 0; i < values.size(); ++i)
      if (arrays[i].memory) bound_[static_cast<size_t>(values[i])].data = arrays[i].data;
  };
  resident(graph_.inputs(), request.inputs);
  resident(graph_.outputs(), request.outputs);
}

void DeviceRunner::run_node(int n, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome) {
  using Clock = std::chrono::steady_clock;
  const Node& node = graph_.nodes()[static_cast<size_t>(n)];
  Tensor* next = operands_.data();
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) *next++ = v < 0 ? Tensor{} : bound_[static_cast<size_t>(v)];
  Call call = graph_.call_of(n, operands_.data(), pool_);
  if (plan.workspace_offset(n) >= 0) call.workspace = arena + plan.workspace_offset(n);
  Exchange::Words* words = request.exchange->words();
  const int32_t code = nodes() - n;  // the largest stays: nodes() for the first node, 1 for the last
  const auto before = Clock::now();
  try {
    graph_.leaves()[static_cast<size_t>(n)].on_device->run(call, {lane_.stream(), &words->fault, code, graph_.description().tf32});
    if (request.profile) lane_.device()->synchronize(lane_.stream());
    if (request.profile) outcome.times[static_cast<size_t>(n)] = std::chrono::duration<double, std::micro>(Clock::now() - before).count();
    if (request.check_finite) cuda::look_for_non_finite(graph_.op(n).name, call, lane_.stream(), &words->not_finite, code);
  } catch (const Error& error) {
    const bool device = std::string(error.code()).rfind("ERR_DEVICE", 0) == 0;
    throw Error(device ? error.code() : "ERR_KERNEL", graph_.leaf_label(n) + ": " + error.what());
  } catch (const std::exception& error) {
    throw Error("ERR_KERNEL", graph_.leaf_label(n) + ": " + error.what());
  }
}

void DeviceRunner::queue_nodes(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena) {
  lane_.device()->fill(request.exchange->words(), 0, sizeof(Exchange::Words), lane_.stream());
  for (int n = 0; n < nodes() && !outcome.cancelled; ++n) {
    if (graph_.may_stop_before(n) && request.cancelled.load(std::memory_order_relaxed)) outcome.cancelled = true;
    else run_node(n, plan, request, arena, outcome);
  }
}

void DeviceRunner::capture(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena) {
  Device& device = *lane_.device();
  device.begin_capture(lane_.stream());
  try {
    queue_nodes(plan, request, outcome, arena);
  } catch (...) {
    try {
      device.destroy(device.end_capture(lane_.stream()));
    } catch (...) {  // the first failure is the one to tell
    }
    throw;
  }
  const CapturedGraph graph = device.end_capture(lane_.stream());
  if (outcome.cancelled) return device.destroy(graph);  // half of it is there
  captured_.keep(graph);
  device.launch(graph, lane_.stream());
}

void DeviceRunner::queue(const MemoryPlan& plan, const RunRequest& request, RunOutcome& outcome, uint8_t* arena) {
  request.exchange->join();
  if (request.profile || request.check_finite) {
    if (request.profile) {
      outcome.times.assign(graph_.leaves().size(), 0.0);
      lane_.device()->synchronize(lane_.stream());  // so that the first node is not charged for the copies
    }
    queue_nodes(plan, request, outcome, arena);
  } else {
    key_.sizes = request.sizes;
    key_.addresses.assign({arena, request.exchange->words()});
    for (const Tensor& t : bound_) key_.addresses.push_back(t.data);
    switch (captured_.look(key_)) {
      case CapturedRuns::Found::first: queue_nodes(plan, request, outcome, arena); break;
      case CapturedRuns::Found::again: capture(plan, request, outcome, arena); break;
      case CapturedRuns::Found::captured: lane_.device()->launch(captured_.graph(), lane_.stream()); break;
    }
  }
  if (!outcome.cancelled) request.exchange->receive();
}

void DeviceRunner::send_ahead(RunRequest& request, const RunRequest& running) {
  if (request.exchange || request.cancelled.load(std::memory_order_relaxed)) return;
  const auto bytes = [](const Borrowed& a) { return a.count * dtype_size(a.dtype); };
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const Borrowed& a : *list)
      for (const Borrowed& b : running.outputs)
        if (!a.absent && !a.memory && !b.absent && !b.memory && static_cast<char*>(a.data) < static_cast<char*>(b.data) + bytes(b) && static_cast<char*>(b.data) < static_cast<char*>(a.data) + bytes(a)) return;
  try {
    request.exchange = std::make_shared<Exchange>(graph_, request, lane_);
    request.exchange->send(true);
  } catch (...) {  // it is tried again when the request runs, and its failure told then
    request.exchange.reset();
  }
}

void DeviceRunner::run(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome) {
  uint8_t* arena = lane_.reserve(plan.arena_bytes());
  if (!request.exchange) request.exchange = std::make_shared<Exchange>(graph_, request, lane_);
  bind(plan, request, arena);
  try {
    queue(plan, request, outcome, arena);
  } catch (...) {
    try {
      lane_.device()->synchronize(lane_.stream());  // what is queued already reads and writes memory of the run
    } catch (...) {  // the first failure is the one to tell
    }
    throw;
  }
  lane_.wait();
  if (outcome.cancelled) return;
  const Exchange::Words& found = request.exchange->found();
  if (found.fault != 0) throw Error("ERR_KERNEL", graph_.leaf_label(nodes() - found.fault) + ": an id or an index is past what it reads");
  if (request.check_finite && found.not_finite != 0) outcome.first_non_finite = nodes() - found.not_finite;
  request.exchange->give();
}

}  // namespace longer
