#include "plan/device_runner.h"

#include <algorithm>
#include <chrono>

#include "kernels/cuda/kernels.h"
#include "plan/executor.h"
#include "plan/finite.h"
#include "runtime/error.h"

namespace longer {

DeviceRunner::DeviceRunner(const CompiledGraph& graph, DeviceLane& lane, ThreadPool& pool) : graph_(graph), lane_(lane), pool_(pool) {
  bound_.resize(graph_.values().size());
  joined_.resize(graph_.values().size());
  begins_as_given_.assign(graph_.values().size(), 1);
  operands_.resize(static_cast<size_t>(graph_.most_operands()));
}

void DeviceRunner::bind(const MemoryPlan& plan, uint8_t* arena) {
  for (size_t v = 0; v < bound_.size(); ++v) {
    const int value = static_cast<int>(v);
    bound_[v] = plan.tensor(value);
    if (plan.offset(value) >= 0) bound_[v].data = arena + plan.offset(value);
    else if (graph_.values()[v].place == Place::store) bound_[v].data = graph_.store_data(value);
  }
}

// Values that are in device memory of the caller are there where they are needed.
void DeviceRunner::bind_resident(const RunRequest& request) {
  const auto each = [&](const std::vector<int>& values, const std::vector<Borrowed>& arrays) {
    for (size_t i = 0; i < values.size(); ++i)
      if (arrays[i].memory) bound_[static_cast<size_t>(values[i])].data = arrays[i].data;
  };
  each(graph_.inputs(), request.inputs);
  each(graph_.outputs(), request.outputs);
}

// A pool of pages is several outputs in one array: as copies of their own the last would overwrite the others.
void DeviceRunner::join_shared(const RunRequest& request) {
  std::fill(joined_.begin(), joined_.end(), 0);
  for (int v : graph_.outputs()) begins_as_given_[static_cast<size_t>(v)] = graph_.begins_as_given(v);
  const auto join = [&](int v, const Borrowed& array, size_t outputs) {
    Tensor& t = bound_[static_cast<size_t>(v)];
    if (array.absent || array.memory || t.bytes() == 0) return;
    const char* from = static_cast<const char*>(array.data);
    for (size_t i = 0; i < outputs; ++i) {
      const int other = graph_.outputs()[i];
      const Tensor& o = bound_[static_cast<size_t>(other)];
      const char* begin = static_cast<const char*>(request.outputs[i].data);
      if (request.outputs[i].absent || request.outputs[i].memory || from >= begin + o.bytes() || begin >= from + t.bytes()) continue;
      if (from != begin || t.bytes() != o.bytes())
        throw shape_error("the arrays of '" + graph_.values()[static_cast<size_t>(v)].name + "' and '" + graph_.values()[static_cast<size_t>(other)].name +
                          "' overlap without being the same");
      t.data = o.data;
      joined_[static_cast<size_t>(v)] = 1;
      begins_as_given_[static_cast<size_t>(other)] = 1;
      return;
    }
  };
  for (size_t i = 0; i < request.outputs.size(); ++i) join(graph_.outputs()[i], request.outputs[i], i);
  for (size_t i = 0; i < request.inputs.size(); ++i) join(graph_.inputs()[i], request.inputs[i], request.outputs.size());
}

void DeviceRunner::copy(const std::vector<int>& values, const std::vector<Borrowed>& arrays, bool in) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Tensor& t = bound_[static_cast<size_t>(values[i])];
    if (arrays[i].absent || arrays[i].memory || t.bytes() == 0 || joined_[static_cast<size_t>(values[i])]) continue;
    if (in && !begins_as_given_[static_cast<size_t>(values[i])]) continue;
    if (in) lane_.device()->copy_in(t.data, arrays[i].data, t.bytes(), lane_.stream());
    else lane_.device()->copy_out(arrays[i].data, t.data, t.bytes(), lane_.stream());
  }
}

// On the host: looked at only where somebody asked for it.
bool DeviceRunner::is_finite(int node, const Call& call) {
  std::vector<Tensor> outputs(call.out, call.out + call.outs);
  std::vector<MemoryBlock> memory;
  for (Tensor& t : outputs) {
    if (!t.present()) continue;
    memory.emplace_back(t.bytes());
    if (t.bytes() > 0) lane_.device()->copy_out(memory.back().data(), t.data, t.bytes(), lane_.stream());
    t.data = memory.back().data();
  }
  wait();
  Call seen = call;
  seen.out = outputs.data();
  return outputs_are_finite(graph_.op(node), seen);
}

void DeviceRunner::run_node(int n, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome) {
  using Clock = std::chrono::steady_clock;
  const Node& node = graph_.nodes()[static_cast<size_t>(n)];
  Tensor* next = operands_.data();
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) *next++ = v < 0 ? Tensor{} : bound_[static_cast<size_t>(v)];
  Call call = graph_.call_of(n, operands_.data(), pool_);
  if (plan.workspace_offset(n) >= 0) call.workspace = arena + plan.workspace_offset(n);
  const auto before = Clock::now();
  try {
    graph_.leaves()[static_cast<size_t>(n)].on_device->run(call, {lane_.stream(), lane_.fault(), nodes() - n});
    if (request.profile) wait();
  } catch (const Error& error) {
    const bool device = std::string(error.code()) == "ERR_DEVICE";
    throw Error(device ? "ERR_DEVICE" : "ERR_KERNEL", graph_.leaf_label(n) + ": " + error.what());
  } catch (const std::exception& error) {
    throw Error("ERR_KERNEL", graph_.leaf_label(n) + ": " + error.what());
  }
  if (request.profile) outcome.times[static_cast<size_t>(n)] = std::chrono::duration<double, std::micro>(Clock::now() - before).count();
  if (request.check_finite && outcome.first_non_finite < 0 && !is_finite(n, call)) outcome.first_non_finite = n;
}

void DeviceRunner::queue(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome, uint8_t* arena) {
  Device& device = *lane_.device();
  device.fill(lane_.fault(), 0, sizeof fault_, lane_.stream());
  copy(graph_.inputs(), request.inputs, true);
  copy(graph_.outputs(), request.outputs, true);
  if (request.profile) {
    outcome.times.assign(graph_.leaves().size(), 0.0);
    wait();  // so that the first node is not charged for the copies
  }
  for (int n = 0; n < nodes() && !outcome.cancelled; ++n) {
    if (request.cancelled.load(std::memory_order_relaxed)) outcome.cancelled = true;
    else run_node(n, plan, request, arena, outcome);
  }
  if (!outcome.cancelled) copy(graph_.outputs(), request.outputs, false);
  device.copy_out(&fault_, lane_.fault(), sizeof fault_, lane_.stream());
}

void DeviceRunner::run(const MemoryPlan& plan, RunRequest& request, RunOutcome& outcome) {
  uint8_t* arena = lane_.reserve(plan.arena_bytes());
  bind(plan, arena);
  bind_resident(request);
  join_shared(request);
  try {
    queue(plan, request, outcome, arena);
  } catch (...) {
    try {
      wait();  // what is queued already reads and writes memory of the caller
    } catch (...) {  // the first failure is the one to tell
    }
    throw;
  }
  wait();
  if (fault_ != 0) throw Error("ERR_KERNEL", graph_.leaf_label(nodes() - fault_) + ": an id or an index is past what it reads");
}

}  // namespace longer
