#include "plan/executor.h"

#include <algorithm>
#include <chrono>

#include "plan/convert.h"
#include "plan/exchange.h"
#include "plan/finite.h"
#include "runtime/error.h"

namespace longer {

namespace {
using Clock = std::chrono::steady_clock;

double microseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::micro>(to - from).count();
}

const char* array_name(DType t) {
  switch (t) {
    case DType::f32: return "Float32Array";
    case DType::bf16:
    case DType::f16: return "Uint16Array";
    case DType::f64: return "Float64Array";
    case DType::i32: return "Int32Array";
  }
  return "?";
}

// The reference backend converts: any of the float arrays does for f32 and f64, a Uint16Array only for bf16 and f16.
bool fits(DType given, DType declared, Backend backend) {
  if (given == declared) return true;
  if (backend != Backend::reference || declared == DType::i32) return false;
  return given == DType::f32 || given == DType::f64;
}
}  // namespace

Executor::Executor(GraphDescription graph, std::shared_ptr<State> state, std::shared_ptr<Runtime> runtime, Backend backend)
    : state_(state), runtime_(std::move(runtime)), graph_(std::move(graph), std::move(state), backend), tiles_(graph_) {
  bound_.resize(graph_.values().size());
  operands_.resize(static_cast<size_t>(graph_.most_operands()));
  held_.resize(graph_.leaves().size());
  prepared_.assign(graph_.leaves().size(), nullptr);
  if (backend != Backend::cuda) return;
  if (!runtime_->lane() || runtime_->lane()->device().get() != state_->device()) throw graph_error("the state is not on the device of the runtime");
  device_ = std::make_unique<DeviceRunner>(graph_, *runtime_->lane(), runtime_->pool());
}

void Executor::check(const RunRequest& request) const {
  graph_.check_sizes(request.sizes);
  for (size_t v = 0; v < graph_.values().size(); ++v)
    if (graph_.values()[v].place == Place::store) graph_.shape(static_cast<int>(v), request.sizes);  // stays inside its store
  const auto check_list = [&](const std::vector<int>& values, const std::vector<Borrowed>& arrays, const char* kind) {
    if (arrays.size() != values.size())
      throw shape_error("expected " + std::to_string(values.size()) + " " + kind + "s, got " + std::to_string(arrays.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      if (arrays[i].absent) continue;
      const Value& value = graph_.values()[static_cast<size_t>(values[i])];
      const auto label = [&] { return std::string(kind) + " '" + value.name + "': "; };
      if (!fits(arrays[i].dtype, value.dtype, graph_.backend()))
        throw shape_error(label() + "expected a " + array_name(value.dtype) + ", got a " + array_name(arrays[i].dtype));
      const int64_t expected = graph_.shape(values[i], request.sizes).size();
      if (arrays[i].memory && (!device_ || arrays[i].memory->device() != state_->device()))
        throw Error("ERR_DEVICE", label() + "the array is in the memory of a device that the plan does not run on");
      if (arrays[i].count != expected)
        throw shape_error(label() + "expected " + std::to_string(expected) + " elements at these sizes, got " +
                          std::to_string(arrays[i].count));
    }
  };
  check_list(graph_.inputs(), request.inputs, "input");
  check_list(graph_.outputs(), request.outputs, "output");
  for (size_t i = 0; i < request.inputs.size(); ++i)
    if (request.inputs[i].absent)
      throw shape_error("input '" + graph_.values()[static_cast<size_t>(graph_.inputs()[i])].name + "' is missing");
}

Placement Executor::placement_of(const RunRequest& request) const {
  Placement placement;
  const auto converted = [&](int value, const Borrowed& array) { return !device_ && array.dtype != graph_.held_dtype(value); };
  for (size_t i = 0; i < request.inputs.size(); ++i)
    placement.inputs.push_back(converted(graph_.inputs()[i], request.inputs[i]));
  for (size_t i = 0; i < request.outputs.size(); ++i)
    placement.outputs.push_back(request.outputs[i].absent || converted(graph_.outputs()[i], request.outputs[i]));
  return placement;
}

const MemoryPlan& Executor::plan_for(const RunRequest& request) {
  wanted_ = placement_of(request);
  ++clock_;
  Cached* oldest = &cache_[0];
  for (Cached& cached : cache_) {
    if (cached.plan.is_for(request.sizes, wanted_)) {
      cached.used = clock_;
      return cached.plan;
    }
    if (cached.used < oldest->used) oldest = &cached;
  }
  oldest->plan.build(graph_, request.sizes, wanted_, runtime_->pool());
  oldest->used = clock_;
  return oldest->plan;
}

MemoryPromise Executor::promise(const std::vector<double>& sizes) {
  graph_.check_sizes(sizes);
  Placement placement;
  placement.inputs.assign(graph_.inputs().size(), 0);
  placement.outputs.assign(graph_.outputs().size(), 0);
  if (!promised_.is_for(sizes, placement)) promised_.build(graph_, sizes, placement, runtime_->pool());
  MemoryPromise promise{promised_.arena_bytes(), promised_.largest(graph_, 10)};
  if (!device_) return promise;
  promise.arena += Exchange::most_bytes(graph_, sizes);
  for (const auto* list : {&graph_.inputs(), &graph_.outputs()})
    for (int v : *list) promise.largest.emplace_back(graph_.values()[static_cast<size_t>(v)].name, promised_.tensor(v).bytes());
  std::sort(promise.largest.begin(), promise.largest.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  promise.largest.resize(std::min<size_t>(promise.largest.size(), 10));
  return promise;
}

void Executor::bind(const MemoryPlan& plan, const RunRequest& request, uint8_t* arena) {
  for (size_t v = 0; v < bound_.size(); ++v) {
    bound_[v] = plan.tensor(static_cast<int>(v));
    const int64_t offset = plan.offset(static_cast<int>(v));
    if (offset >= 0) bound_[v].data = arena + offset;
    else if (graph_.values()[v].place == Place::store) bound_[v].data = graph_.store_data(static_cast<int>(v));
  }
  const auto borrow = [&](const std::vector<int>& values, const std::vector<Borrowed>& arrays) {
    for (size_t i = 0; i < values.size(); ++i) {
      Tensor& tensor = bound_[static_cast<size_t>(values[i])];
      if (plan.offset(values[i]) >= 0) continue;
      tensor.data = arrays[i].data ? arrays[i].data : arena;  // an empty array may have no memory of its own
    }
  };
  borrow(graph_.inputs(), request.inputs);
  borrow(graph_.outputs(), request.outputs);
}

void Executor::copy_in(const RunRequest& request) {
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const Tensor& to = bound_[static_cast<size_t>(graph_.inputs()[i])];
    if (wanted_.inputs[i]) convert(request.inputs[i].data, request.inputs[i].dtype, to.data, to.dtype, to.size());
  }
  // An operation may work on an output in place, so a converted one starts as the caller has it.
  for (size_t i = 0; i < request.outputs.size(); ++i) {
    const Tensor& to = bound_[static_cast<size_t>(graph_.outputs()[i])];
    if (wanted_.outputs[i] && !request.outputs[i].absent)
      convert(request.outputs[i].data, request.outputs[i].dtype, to.data, to.dtype, to.size());
  }
}

void Executor::copy_out(const RunRequest& request) {
  for (size_t i = 0; i < request.outputs.size(); ++i) {
    const Tensor& from = bound_[static_cast<size_t>(graph_.outputs()[i])];
    if (wanted_.outputs[i] && !request.outputs[i].absent)
      convert(from.data, from.dtype, request.outputs[i].data, request.outputs[i].dtype, from.size());
  }
}

// Weights that this plan cannot change are held as their kernels read them. Those that others change are prepared again.
void Executor::hold_prepared(const MemoryPlan& plan) {
  if (graph_.writes_state() || graph_.backend() != Backend::cpu) return;
  const uint64_t version = state_->version();
  if (version == prepared_version_) return;
  for (size_t leaf = 0; leaf < graph_.leaves().size(); ++leaf) {
    const CompiledGraph::Leaf& at = graph_.leaves()[leaf];
    if (at.op->prepare) prepare_weights(static_cast<int>(leaf), *at.node, *at.op, version, plan);
  }
  prepared_version_ = version;
}

void Executor::prepare_weights(int leaf, const Node& node, const Op& op, uint64_t version, const MemoryPlan& plan) {
  const int weights = node.inputs[static_cast<size_t>(op.prepare->input)];
  const Value& value = graph_.values()[static_cast<size_t>(weights)];
  if (value.place != Place::store) return;
  Tensor* next = operands_.data();
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) *next++ = v < 0 ? Tensor{} : plan.tensor(v);
  Tensor& form = operands_[static_cast<size_t>(op.prepare->input)];
  form.data = graph_.store_data(weights);
  const Call call = graph_.call_of(leaf, operands_.data(), runtime_->pool());
  const PreparedWeights::Key key{node.op, value.store, value.offset, form.rows(), form.cols(), static_cast<int>(operands_[0].dtype)};
  const size_t at = static_cast<size_t>(leaf);
  held_[at].reset();  // so that the memory can be used again
  held_[at] = state_->prepared().get(key, version, op.prepare->bytes(call), [&](void* to) { op.prepare->fill(call, to); });
  prepared_[at] = held_[at]->data();
}

Call Executor::call_of(int n, const MemoryPlan& plan, uint8_t* arena) {
  const Node& node = graph_.nodes()[static_cast<size_t>(n)];
  Tensor* next = operands_.data();
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) *next++ = v < 0 ? Tensor{} : bound_[static_cast<size_t>(v)];
  Call call = graph_.call_of(graph_.first_leaf(n), operands_.data(), runtime_->pool());
  const int64_t workspace = plan.workspace_offset(n);
  if (workspace >= 0) call.workspace = arena + workspace;
  call.prepared = prepared_[static_cast<size_t>(graph_.first_leaf(n))];
  return call;
}

void Executor::run_node(int n, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome) {
  const int leaf = graph_.first_leaf(n);
  const Call call = call_of(n, plan, arena);
  const auto before = request.profile ? Clock::now() : Clock::time_point{};
  graph_.run_leaf(leaf, call);
  if (request.profile) outcome.times[static_cast<size_t>(leaf)] = microseconds(before, Clock::now());
  if (request.check_finite && outcome.first_non_finite < 0 && !outputs_are_finite(graph_.op(n), call)) outcome.first_non_finite = leaf;
}

void Executor::run_tiles(int n, const MemoryPlan& plan, const RunRequest& request, uint8_t* arena, RunOutcome& outcome) {
  const int leaf = graph_.first_leaf(n);
  const int64_t workspace = plan.workspace_offset(n);
  const auto before = request.profile ? Clock::now() : Clock::time_point{};
  const int bad = tiles_.run({n, plan.tile(n), bound_, workspace < 0 ? arena : arena + workspace, runtime_->pool(), prepared_.data() + leaf, request.profile,
                              request.check_finite, request.cancelled});
  outcome.cancelled = request.cancelled.load(std::memory_order_relaxed);  // perhaps half-way
  if (bad >= 0 && outcome.first_non_finite < 0) outcome.first_non_finite = leaf + bad;
  if (!request.profile) return;
  const double wall = microseconds(before, Clock::now());
  double sum = 0;
  for (double t : tiles_.times()) sum += t;
  for (size_t i = 0; i < tiles_.times().size(); ++i)
    outcome.times[static_cast<size_t>(leaf) + i] = sum > 0 ? wall * tiles_.times()[i] / sum : 0;
}

void Executor::prepare(RunRequest& request, const RunRequest& running) {
  if (device_) device_->send_ahead(request, running);
}

void Executor::run(RunRequest& request, RunOutcome& outcome) {
  const auto start = Clock::now();
  const struct Leave {
    RunRequest& request;
    ~Leave() { request.exchange.reset(); }
  } leave{request};
  outcome.cancelled = request.cancelled.load(std::memory_order_relaxed);
  if (outcome.cancelled) return;
  const MemoryPlan& plan = plan_for(request);
  if (device_) {
    device_->run(plan, request, outcome);
    outcome.elapsed = microseconds(start, Clock::now());
    return;
  }
  ThreadPool& pool = runtime_->pool();
  const uint64_t loops = pool.loops();
  if (shares_loops_) pool.rouse();
  uint8_t* arena = runtime_->arena().reserve(plan.arena_bytes());
  bind(plan, request, arena);
  copy_in(request);
  hold_prepared(plan);

  const int nodes = static_cast<int>(graph_.nodes().size());
  if (request.profile) outcome.times.assign(graph_.leaves().size(), 0.0);
  for (int n = 0; n < nodes && !outcome.cancelled; ++n) {
    if (graph_.may_stop_before(n) && request.cancelled.load(std::memory_order_relaxed)) outcome.cancelled = true;
    else if (graph_.tile(n)) run_tiles(n, plan, request, arena, outcome);
    else run_node(n, plan, request, arena, outcome);
  }
  if (!outcome.cancelled) copy_out(request);
  shares_loops_ = pool.loops() > loops;
  outcome.elapsed = microseconds(start, Clock::now());
  if (!outcome.cancelled) times_.note(request.sizes, outcome.elapsed);
}

}  // namespace longer
