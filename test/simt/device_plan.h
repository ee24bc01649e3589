// A training step and a scorer as graphs, a state for them on a device or the host, and how they are run: for the tests of plans on a device.
#pragma once
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "plan/executor.h"
#include "runtime/error.h"
#include "simt/check.h"
#include "simt/machine.h"
#include "simt/subject.h"

using namespace longer;
using simt::expect;

namespace {

constexpr DType f32 = DType::f32, f16 = DType::f16, i32 = DType::i32, f64 = DType::f64;
constexpr double kRequests = 5, kEvents = 40;
constexpr int64_t kItems = 30, kWidth = 8, kHidden = 16;

Dim fixed(int64_t n) { return {n, {}}; }
const Dim requests{0, {{0, 1}}}, events{0, {{1, 1}}}, offsets{1, {{0, 1}}};

class GraphMaker {
 public:
  GraphMaker() { graph.symbols = {"requests", "events"}; }
  int value(const std::string& name, DType dtype, std::vector<Dim> dims, Place place = Place::arena, const std::string& store = "", int64_t at = 0) {
    graph.values.push_back({name, dtype, std::move(dims), place, store, at});
    return static_cast<int>(graph.values.size()) - 1;
  }
  void node(const std::string& op, std::vector<int> ins, std::vector<int> outs, std::vector<double> attributes = {}) {
    graph.nodes.push_back({op, op + std::to_string(graph.nodes.size()), std::move(ins), std::move(outs), std::move(attributes)});
  }
  GraphDescription graph;
};

// Dense parameters and, in a store of the same layout, their gradients.
struct Dense {
  int w1, b1, w2, b2;
  static constexpr int64_t size = kWidth * kHidden + kHidden + kHidden + 1;
  Dense(GraphMaker& m, const std::string& store) {
    int64_t at = 0;
    const auto next = [&](const char* name, std::vector<Dim> dims, int64_t count) {
      const int v = m.value(store + "." + name, f32, std::move(dims), Place::store, store, at);
      at += count;
      return v;
    };
    w1 = next("w1", {fixed(kWidth), fixed(kHidden)}, kWidth * kHidden);
    b1 = next("b1", {fixed(kHidden)}, kHidden);
    w2 = next("w2", {fixed(kHidden), fixed(1)}, kHidden);
    b2 = next("b2", {fixed(1)}, 1);
  }
};

struct Forward {
  int ids, offsets, table, x, pre, pooled, logits;
};

// logits = mean over a request's events of gelu(table[id] w1 + b1), times w2 + b2; activations of type `held`
Forward forward(GraphMaker& m, const Dense& p, DType held = f32) {
  Forward f;
  f.ids = m.value("ids", i32, {events}, Place::input);
  f.offsets = m.value("offsets", i32, {offsets}, Place::input);
  f.table = m.value("table", f32, {fixed(kItems), fixed(kWidth)}, Place::store, "table");
  f.x = m.value("x", held, {events, fixed(kWidth)});
  f.pre = m.value("pre", held, {events, fixed(kHidden)});
  const int hidden = m.value("hidden", held, {events, fixed(kHidden)});
  f.pooled = m.value("pooled", held, {requests, fixed(kHidden)});
  f.logits = m.value("logits", f32, {requests, fixed(1)}, Place::output);
  m.node("embed", {f.table, f.ids, -1}, {f.x}, {1, 0, 0});
  m.node("linear", {f.x, p.w1, p.b1}, {hidden, f.pre}, {1});
  m.node("segment_pool", {hidden, f.offsets}, {f.pooled}, {1});
  m.node("linear", {f.pooled, p.w2, p.b2}, {f.logits}, {0});
  return f;
}

GraphDescription scorer(DType held = f32) {
  GraphMaker m;
  forward(m, Dense(m, "dense"), held);
  return m.graph;
}

// In f16 with a loss scale, which doubles after two good steps in a row.
GraphDescription training_step(DType held = f32) {
  GraphMaker m;
  const bool scaled = held == f16;
  const Dense p(m, "dense"), g(m, "grad");
  const Forward f = forward(m, p, held);
  const auto flat = [&](const char* store) { return m.value(std::string("flat.") + store, f32, {fixed(Dense::size)}, Place::store, store); };
  const int labels = m.value("labels", f32, {requests, fixed(1)}, Place::input), hyper = m.value("hyper", f32, {fixed(8)}, Place::input);
  const int loss = m.value("loss", f32, {fixed(1)}, Place::output), per_task = m.value("per_task", f32, {fixed(1)}, Place::output);
  const int dlogits = m.value("dlogits", f32, {requests, fixed(1)}), dpooled = m.value("dpooled", held, {requests, fixed(kHidden)});
  const int dhidden = m.value("dhidden", held, {events, fixed(kHidden)}), dpre = m.value("dpre", held, {events, fixed(kHidden)});
  const int dx = m.value("dx", held, {events, fixed(kWidth)});
  const int rows = m.value("rows", i32, {events}), drows = m.value("drows", f32, {events, fixed(kWidth)}), count = m.value("count", i32, {fixed(1)});
  const int dense_sum = m.value("dense_sum", f64, {fixed(1)}), sparse_sum = m.value("sparse_sum", f64, {fixed(1)});
  const int scale = m.value("scale", f32, {fixed(1)}), norm = m.value("norm", f32, {fixed(1)}, Place::output);
  const int loss_scale = m.value("loss_scale", f32, {fixed(1)}, Place::store, "loss_scale"), dlogits_held = scaled ? m.value("dlogits.f16", f16, {requests, fixed(1)}) : dlogits;
  m.node("bce", {f.logits, labels}, {loss, per_task}, {1});
  m.node("bce_dx", {f.logits, labels, -1, -1, scaled ? loss_scale : -1}, {dlogits}, {1});
  if (scaled) m.node("cast", {dlogits}, {dlogits_held});
  m.node("linear_dw", {f.pooled, dlogits_held}, {g.w2, g.b2});
  m.node("linear_dx", {dlogits_held, p.w2}, {dpooled}, {0});
  m.node("segment_pool_dx", {dpooled, f.offsets}, {dhidden}, {1});
  m.node("activation_dx", {f.pre, dhidden}, {dpre}, {1});
  m.node("linear_dw", {f.x, dpre}, {g.w1, g.b1});
  m.node("linear_dx", {dpre, p.w1}, {dx}, {0});
  m.node("sparse_grad", {f.ids, -1, dx}, {rows, drows, count}, {1, 0, 0});
  m.node("sum_squares", {flat("grad")}, {dense_sum});
  m.node("sum_squares", {drows, count}, {sparse_sum});
  if (scaled) m.node("clip_scale", {dense_sum, sparse_sum, loss_scale}, {scale, norm}, {0.01, 2, 1});
  else m.node("clip_scale", {dense_sum, sparse_sum}, {scale, norm}, {0.01, 2, 0});
  m.node("adamw", {flat("grad"), hyper, scale}, {flat("dense"), flat("first"), flat("second")}, {0.9, 0.999, 1e-8});
  m.node("rowwise_adagrad", {rows, drows, count, hyper, scale},
         {f.table, m.value("sums", f32, {fixed(kItems)}, Place::store, "sums")}, {1e-8});
  if (scaled) m.node("update_loss_scale", {scale}, {loss_scale, m.value("good", i32, {fixed(1)}, Place::store, "good")}, {2});
  return m.graph;
}

const std::vector<StoreDescription> stores = {{"dense", f32, Dense::size}, {"grad", f32, Dense::size}, {"first", f32, Dense::size},
                                              {"second", f32, Dense::size}, {"table", f32, kItems * kWidth}, {"sums", f32, kItems}, {"loss_scale", f32, 1}, {"good", i32, 1}};

Tensor list(void* data, DType dtype, size_t count) {
  Tensor t;
  t.data = data, t.dtype = dtype, t.rank = 1, t.dim[0] = static_cast<int64_t>(count);
  return t;
}

// Data of a run by value name.
struct Batch {
  std::vector<int32_t> ids, offsets = {0, 7, 7, 8, 30, 40};  // an empty request and one of a single event
  std::vector<float> labels = {1, 0, 0, 1, 0}, hyper = {0.01f, 0.1f, 0.05f, 1, 0, 0, 0, 0};
  Batch() {
    for (int i = 0; i < 40; ++i) ids.push_back(i * i % 29);
  }
};

class Subject {
 public:
  Subject(Backend backend, std::shared_ptr<Device> device)
      : runtime(std::make_shared<Runtime>(1, device)), state(std::make_shared<State>(stores, backend, device)), backend_(backend) {
    for (const StoreDescription& s : stores) {
      if (s.dtype == i32) continue;
      std::vector<float> values(static_cast<size_t>(s.size));
      const bool parameter = s.name == "dense" || s.name == "table";
      for (size_t i = 0; i < values.size(); ++i) values[i] = parameter ? std::sin(static_cast<float>(i * i + s.name.size())) / 3 : s.name == "loss_scale" ? 1024.f : 0.f;
      state->write(s.name, 0, list(values.data(), f32, values.size()));
    }
  }

  Executor compile(GraphDescription graph) { return Executor(std::move(graph), state, runtime, backend_); }

  std::vector<double> store(const std::string& name) {
    std::vector<double> values(static_cast<size_t>(state->find(name)->size));
    if (state->find(name)->declared == i32) {
      std::vector<int32_t> whole(values.size());
      state->read(name, 0, list(whole.data(), i32, whole.size()));
      return {whole.begin(), whole.end()};
    }
    state->read(name, 0, list(values.data(), f64, values.size()));
    return values;
  }

  std::shared_ptr<Runtime> runtime;
  std::shared_ptr<State> state;

 private:
  Backend backend_;
};

struct Ran {
  std::map<std::string, std::vector<float>> outputs;
  RunOutcome outcome;
  std::string error, code;
};

Ran run(Executor& executor, Batch& batch, void (*change)(RunRequest&) = [](RunRequest&) {}) {
  Ran ran;
  RunRequest request;
  request.sizes = {kRequests, kEvents};
  const CompiledGraph& graph = executor.graph();
  const auto borrowed = [](auto& values, DType dtype) { return Borrowed{values.data(), dtype, static_cast<int64_t>(values.size()), false}; };
  for (int v : graph.inputs()) {
    const std::string& name = graph.values()[static_cast<size_t>(v)].name;
    request.inputs.push_back(name == "ids" ? borrowed(batch.ids, i32) : name == "offsets" ? borrowed(batch.offsets, i32) : name == "labels" ? borrowed(batch.labels, f32) : borrowed(batch.hyper, f32));
  }
  for (int v : graph.outputs()) {
    std::vector<float>& values = ran.outputs[graph.values()[static_cast<size_t>(v)].name];
    values.assign(static_cast<size_t>(graph.shape(v, request.sizes).size()), NAN);
    request.outputs.push_back(borrowed(values, f32));
  }
  change(request);
  try {
    executor.check(request);
    executor.run(request, ran.outcome);
  } catch (const Error& error) {
    ran.error = error.what(), ran.code = error.code();
  }
  return ran;
}

}  // namespace
