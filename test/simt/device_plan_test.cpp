// A whole training step and a scorer as compiled graphs, on the emulated device and by the reference in double: one stream,
// one wait, parameters and optimizer state in the device's memory.
#include <cmath>
#include <future>
#include <map>

#include "kernels/cuda/kernels.h"
#include "plan/executor.h"
#include "runtime/error.h"
#include "simt/check.h"
#include "simt/machine.h"
#include "simt/subject.h"

using namespace longer;
using simt::expect;

namespace {

constexpr DType f32 = DType::f32, i32 = DType::i32, f64 = DType::f64;
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

// logits = mean over a request's events of gelu(table[id] w1 + b1), times w2 + b2
Forward forward(GraphMaker& m, const Dense& p) {
  Forward f;
  f.ids = m.value("ids", i32, {events}, Place::input);
  f.offsets = m.value("offsets", i32, {offsets}, Place::input);
  f.table = m.value("table", f32, {fixed(kItems), fixed(kWidth)}, Place::store, "table");
  f.x = m.value("x", f32, {events, fixed(kWidth)});
  f.pre = m.value("pre", f32, {events, fixed(kHidden)});
  const int hidden = m.value("hidden", f32, {events, fixed(kHidden)});
  f.pooled = m.value("pooled", f32, {requests, fixed(kHidden)});
  f.logits = m.value("logits", f32, {requests, fixed(1)}, Place::output);
  m.node("embed", {f.table, f.ids, -1}, {f.x}, {1, 0, 0});
  m.node("linear", {f.x, p.w1, p.b1}, {hidden, f.pre}, {1});
  m.node("segment_pool", {hidden, f.offsets}, {f.pooled}, {1});
  m.node("linear", {f.pooled, p.w2, p.b2}, {f.logits}, {0});
  return f;
}

GraphDescription scorer() {
  GraphMaker m;
  forward(m, Dense(m, "dense"));
  return m.graph;
}

GraphDescription training_step() {
  GraphMaker m;
  const Dense p(m, "dense"), g(m, "grad");
  const Forward f = forward(m, p);
  const auto flat = [&](const char* store) { return m.value(std::string("flat.") + store, f32, {fixed(Dense::size)}, Place::store, store); };
  const int labels = m.value("labels", f32, {requests, fixed(1)}, Place::input), hyper = m.value("hyper", f32, {fixed(8)}, Place::input);
  const int loss = m.value("loss", f32, {fixed(1)}, Place::output), per_task = m.value("per_task", f32, {fixed(1)}, Place::output);
  const int dlogits = m.value("dlogits", f32, {requests, fixed(1)}), dpooled = m.value("dpooled", f32, {requests, fixed(kHidden)});
  const int dhidden = m.value("dhidden", f32, {events, fixed(kHidden)}), dpre = m.value("dpre", f32, {events, fixed(kHidden)});
  const int dx = m.value("dx", f32, {events, fixed(kWidth)});
  const int rows = m.value("rows", i32, {events}), drows = m.value("drows", f32, {events, fixed(kWidth)}), count = m.value("count", i32, {fixed(1)});
  const int dense_sum = m.value("dense_sum", f64, {fixed(1)}), sparse_sum = m.value("sparse_sum", f64, {fixed(1)});
  const int scale = m.value("scale", f32, {fixed(1)}), norm = m.value("norm", f32, {fixed(1)}, Place::output);
  m.node("bce", {f.logits, labels}, {loss, per_task}, {1});
  m.node("bce_dx", {f.logits, labels}, {dlogits}, {1});
  m.node("linear_dw", {f.pooled, dlogits}, {g.w2, g.b2});
  m.node("linear_dx", {dlogits, p.w2}, {dpooled}, {0});
  m.node("segment_pool_dx", {dpooled, f.offsets}, {dhidden}, {1});
  m.node("activation_dx", {f.pre, dhidden}, {dpre}, {1});
  m.node("linear_dw", {f.x, dpre}, {g.w1, g.b1});
  m.node("linear_dx", {dpre, p.w1}, {dx}, {0});
  m.node("sparse_grad", {f.ids, -1, dx}, {rows, drows, count}, {1, 0, 0});
  m.node("sum_squares", {flat("grad")}, {dense_sum});
  m.node("sum_squares", {drows, count}, {sparse_sum});
  m.node("clip_scale", {dense_sum, sparse_sum}, {scale, norm}, {0.01, 2});
  m.node("adamw", {flat("grad"), hyper, scale}, {flat("dense"), flat("first"), flat("second")}, {0.9, 0.999, 1e-8});
  m.node("rowwise_adagrad", {rows, drows, count, hyper, scale},
         {f.table, m.value("sums", f32, {fixed(kItems)}, Place::store, "sums")}, {1e-8});
  return m.graph;
}

const std::vector<StoreDescription> stores = {{"dense", f32, Dense::size}, {"grad", f32, Dense::size}, {"first", f32, Dense::size},
                                              {"second", f32, Dense::size}, {"table", f32, kItems * kWidth}, {"sums", f32, kItems}};

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
      std::vector<float> values(static_cast<size_t>(s.size));
      const bool parameter = s.name == "dense" || s.name == "table";
      for (size_t i = 0; i < values.size(); ++i) values[i] = parameter ? std::sin(static_cast<float>(i * i + s.name.size())) / 3 : 0.f;
      state->write(s.name, 0, list(values.data(), f32, values.size()));
    }
  }

  Executor compile(GraphDescription graph) { return Executor(std::move(graph), state, runtime, backend_); }

  std::vector<double> store(const std::string& name) {
    std::vector<double> values(static_cast<size_t>(state->find(name)->size));
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

void expect_near(const std::vector<double>& found, const std::vector<double>& want, const std::string& what) {
  double most = 1e-3, worst = 0;
  for (double w : want) most = std::max(most, std::fabs(w));
  for (size_t i = 0; i < want.size(); ++i) {
    const double off = std::fabs(found[i] - want[i]);
    if (!(off <= worst)) worst = off;
  }
  expect(worst <= 2e-5 * most, what + ": off by " + std::to_string(worst) + " of " + std::to_string(most));
}

std::vector<double> wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

void steps_and_scores_agree(const std::shared_ptr<Device>& device) {
  Subject exact(Backend::reference, nullptr), emulated(Backend::cuda, device);
  Executor want_step = exact.compile(training_step()), step = emulated.compile(training_step());
  Executor want_score = exact.compile(scorer()), score = emulated.compile(scorer());
  Batch batch;
  for (int t = 1; t <= 3; ++t) {
    batch.hyper[3] = static_cast<float>(t);
    const Ran want = run(want_step, batch), found = run(step, batch);
    expect(want.error.empty() && found.error.empty(), want.error + found.error);
    for (const auto& [name, values] : want.outputs) expect_near(wide(found.outputs.at(name)), wide(values), "step " + std::to_string(t) + " " + name);
    for (const StoreDescription& s : stores) expect_near(emulated.store(s.name), exact.store(s.name), "step " + std::to_string(t) + " store " + s.name);
    const Ran scored = run(score, batch);
    expect_near(wide(scored.outputs.at("logits")), wide(run(want_score, batch).outputs.at("logits")), "scores after step " + std::to_string(t));
  }
}

void schedules_do_not_matter(const std::shared_ptr<Device>& device) {
  std::vector<std::vector<double>> first;
  for (const simt::Schedule schedule : {simt::Schedule::forward, simt::Schedule::reverse, simt::Schedule::random}) {
    simt::options().schedule = schedule;
    Subject subject(Backend::cuda, device);
    Executor step = subject.compile(training_step());
    Batch batch;
    run(step, batch);
    std::vector<std::vector<double>> held;
    for (const StoreDescription& s : stores) held.push_back(subject.store(s.name));
    if (first.empty()) first = held;
    expect(held == first, "the state after a step depends on the schedule of threads");
  }
  simt::options().schedule = simt::Schedule::forward;
}

void an_illegal_id_is_told(const std::shared_ptr<Device>& device) {
  Subject subject(Backend::cuda, device);
  Executor step = subject.compile(training_step());
  Batch good, bad;
  bad.ids[11] = static_cast<int32_t>(kItems);
  const std::vector<double> before = subject.store("dense"), rows = subject.store("table");
  const Ran ran = run(step, bad);
  expect(ran.code == "ERR_KERNEL" && ran.error == "node 0 'embed0' (embed): an id or an index is past what it reads", ran.error);
  expect(subject.store("dense") == before && subject.store("table") == rows, "a step with an illegal id changed the parameters");
  expect(run(step, good).error.empty() && subject.store("dense") != before, "the next run is not bothered");
}

void questions_are_answered(const std::shared_ptr<Device>& device) {
  Subject subject(Backend::cuda, device);
  Executor step = subject.compile(training_step());
  Batch batch;
  const std::vector<double> before = subject.store("dense");
  const Ran cancelled = run(step, batch, [](RunRequest& r) { r.cancelled = true; });
  expect(cancelled.outcome.cancelled && subject.store("dense") == before, "a run that was cancelled before it began did something");
  const Ran profiled = run(step, batch, [](RunRequest& r) { r.profile = r.check_finite = true; });
  expect(profiled.outcome.times.size() == step.graph().leaves().size() && profiled.outcome.times[1] > 0, "no times");
  expect(profiled.outcome.first_non_finite == -1, "finite values are called otherwise");
  const Ran quiet = run(step, batch, [](RunRequest& r) { r.outputs.assign(r.outputs.size(), Borrowed()); });
  expect(quiet.error.empty() && std::isnan(quiet.outputs.at("loss")[0]), "outputs that nobody takes");
  const Ran overlapping = run(step, batch, [](RunRequest& r) { r.outputs[1].data = static_cast<float*>(r.outputs[0].data) + 1; });
  expect(overlapping.error == "the arrays of 'loss' and 'logits' overlap without being the same", overlapping.error);
  float nan = NAN;
  subject.state->write("dense", 3, list(&nan, f32, 1));
  expect(run(step, batch, [](RunRequest& r) { r.check_finite = true; }).outcome.first_non_finite == 1, "the first node with a NaN is not named");
  const MemoryPromise promise = step.promise({kRequests, kEvents});
  expect(promise.arena >= 40 * (kWidth + kHidden) * 4 && !promise.largest.empty(), "the promise of memory");
}

// Runs that are met again are one launch, with the same bits, whatever the order of streams; other sizes, other addresses and runs that are
// looked into are not what was captured.
void runs_are_captured(const std::shared_ptr<Device>& device) {
  const auto launches = [&] { return device->use().graph_launches; };
  Subject plain(Backend::cuda, device), subject(Backend::cuda, device);
  Executor step = subject.compile(training_step()), score = subject.compile(scorer());
  Batch batch;
  for (int t = 1; t <= 6; ++t) {
    simt::options().seed = static_cast<uint64_t>(t);
    batch.hyper[3] = static_cast<float>(t);
    Executor never = plain.compile(training_step()), once = plain.compile(scorer());
    const int64_t before = launches();
    const Ran want = run(never, batch), want_score = run(once, batch);
    expect(launches() == before, "a run that is new is not captured");
    const Ran found = run(step, batch), found_score = run(score, batch);
    expect(launches() - before == (t == 1 ? 0 : 2), "from the second run on it is a graph");
    expect(found.error.empty() && found.outputs == want.outputs && found_score.outputs == want_score.outputs, "other bits from a graph");
    for (const StoreDescription& s : stores) expect(subject.store(s.name) == plain.store(s.name), "another state from a graph: " + s.name);
  }
  const auto expect_launches = [&](int64_t more, const char* what, Batch& of, void (*change)(RunRequest&) = [](RunRequest&) {}) {
    const int64_t before = launches();
    const Ran ran = run(score, of, change);
    expect(ran.error.empty() && launches() - before == more, what);
    return ran;
  };
  expect_launches(0, "a profiled run is captured", batch, [](RunRequest& r) { r.profile = true; });
  expect_launches(0, "a run that looks for NaN is captured", batch, [](RunRequest& r) { r.check_finite = true; });
  expect_launches(0, "outputs that nobody takes lie elsewhere", batch, [](RunRequest& r) { r.outputs.assign(r.outputs.size(), Borrowed()); });
  Batch shorter = batch;
  shorter.ids.resize(30), shorter.offsets = {0, 7, 7, 8, 30, 30};
  const auto fewer = [](RunRequest& r) { r.sizes[1] = 30; };
  const Ran first = expect_launches(0, "another size", shorter, fewer);
  expect(expect_launches(1, "the same size again", shorter, fewer).outputs == first.outputs, "other bits");
  expect_launches(1, "the graph of the first size is still there", batch);
  // A larger run moves the scratch memory: the graphs' addresses are not those of a run any more.
  const Ran before = run(score, batch);
  subject.runtime->lane()->reserve(int64_t{1} << 20);
  expect(expect_launches(0, "moved memory", batch).outputs == before.outputs && expect_launches(1, "and again", batch).outputs == before.outputs, "other bits after a move");
  shorter.ids[3] = static_cast<int32_t>(kItems);
  run(score, shorter, fewer);
  const Ran bad = run(score, shorter, fewer);
  expect(bad.code == "ERR_KERNEL" && bad.error.find("node 0 'embed0'") == 0, "an illegal id in a graph is told: " + bad.error);
  expect(run(score, batch).outputs == before.outputs, "and the next run is not bothered");
}

// The next request's inputs are sent while one runs.
void inputs_are_sent_ahead(const std::shared_ptr<Device>& device) {
  Subject subject(Backend::cuda, device);
  Executor score = subject.compile(scorer());
  Batch one, two;
  for (int32_t& id : two.ids) id = (id * 7 + 3) % 30;
  const std::vector<float> want[] = {run(score, one).outputs["logits"], run(score, two).outputs["logits"]};
  struct Made : Task {
    Made(Executor& e, Batch& batch) : executor(e), logits(5) {
      request.sizes = {kRequests, kEvents};
      request.inputs = {{batch.ids.data(), i32, 40, false}, {batch.offsets.data(), i32, 6, false}};
      request.outputs = {{logits.data(), f32, 5, false}};
    }
    void run(Runtime&) noexcept override {
      if (begin) begin->get_future().wait();
      was_sent = request.exchange != nullptr;
      try {
        executor.run(request, outcome);
      } catch (const std::exception& e) {
        error = e.what();
      }
      done.set_value();
    }
    void prepare(Task& running) noexcept override { executor.prepare(request, static_cast<Made&>(running).request); }
    Executor& executor;
    RunRequest request;
    RunOutcome outcome;
    std::vector<float> logits;
    std::string error;
    bool was_sent = false;
    std::promise<void>* begin = nullptr;
    std::promise<void> done;
  };
  const auto post = [&](std::vector<Made*> tasks) {
    std::promise<void> posted;
    tasks[0]->begin = &posted;
    for (Made* task : tasks) subject.runtime->post(task);
    posted.set_value();
    for (Made* task : tasks) task->done.get_future().wait();
  };
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    simt::options().seed = seed;
    Made a(score, one), b(score, two), c(score, one);
    post({&a, &b, &c});
    expect(!a.was_sent && b.was_sent && c.was_sent && a.error.empty() && b.error.empty() && c.error.empty(), "inputs are sent while another request runs");
    expect(a.logits == want[0] && b.logits == want[1] && c.logits == want[0], "other bits from inputs that were sent ahead");
  }
  {  // what the request under way is yet to write is waited for
    Made a(score, one), c(score, two);
    c.request.inputs[1].data = a.logits.data();  // never run: only whether it is sent counts
    score.prepare(c.request, a.request);
    expect(!c.request.exchange, "an input that is being written was sent");
  }
  {  // one that was sent and is cancelled leaves its place to others
    Made a(score, one), b(score, two), c(score, two), d(score, one);
    score.prepare(b.request, a.request);
    expect(b.request.exchange != nullptr, "sent");
    b.request.cancelled = true;
    score.run(b.request, b.outcome);
    expect(b.outcome.cancelled && !b.request.exchange, "cancelled");
    post({&c, &d});
    expect(c.error.empty() && d.error.empty() && c.logits == want[1] && d.logits == want[0], "after a cancelled one");
  }
}

// embed and linear as the body of a tile.
void tiles_are_laid_open(const std::shared_ptr<Device>& device) {
  GraphMaker m;
  const Dense p(m, "dense");
  const Forward f = forward(m, p);
  auto tile = std::make_shared<Tile>();
  tile->symbol = 1, tile->rows = 8, tile->offsets = f.offsets;
  tile->body.assign(m.graph.nodes.begin(), m.graph.nodes.begin() + 2);
  const int hidden = tile->body[1].outputs[0];
  tile->body[1].outputs.pop_back();
  tile->roles = {{f.table, TileRole::whole}, {f.ids, TileRole::row}, {f.x, TileRole::inner}, {p.w1, TileRole::whole}, {p.b1, TileRole::whole},
                 {hidden, TileRole::row}, {f.offsets, TileRole::offsets}};
  const Node tiled{"tiled", "events", {f.table, f.ids, p.w1, p.b1, f.offsets}, {hidden}, {}, tile};
  m.graph.nodes.erase(m.graph.nodes.begin(), m.graph.nodes.begin() + 2);
  m.graph.nodes.insert(m.graph.nodes.begin(), tiled);
  Batch batch;
  Subject exact(Backend::reference, nullptr), emulated(Backend::cuda, device);
  Executor want = exact.compile(m.graph), found = emulated.compile(m.graph);
  expect(found.graph().nodes().size() == 4, "a tile is its operations");
  expect_near(wide(run(found, batch).outputs.at("logits")), wide(run(want, batch).outputs.at("logits")), "a tiled graph");
}

template <class Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return {"", "no error"};
}

void what_cannot_run_is_refused(const std::shared_ptr<Device>& device) {
  Subject subject(Backend::cuda, device);
  for (const std::string& op : op_names()) {
    if (cuda::find_device_op(op)) continue;
    GraphMaker m;
    m.node(op, {}, {});
    const Error missing = error_of([&] { subject.compile(m.graph); });
    expect(std::string(missing.code()) == "ERR_DEVICE" && std::string(missing.what()).find("node 0 '" + op + "0' (" + op + "): the operation '" + op + "' has no CUDA kernel") == 0, missing.what());
  }
  Subject host(Backend::cpu, nullptr);
  const Error elsewhere = error_of([&] { Executor(scorer(), subject.state, host.runtime, Backend::cuda); });
  expect(std::string(elsewhere.what()) == "the state is not on the device of the runtime", elsewhere.what());
  const Error other = error_of([&] { Executor(scorer(), subject.state, subject.runtime, Backend::cpu); });
  expect(std::string(other.what()) == "the state was made for another backend than the plan", other.what());
  const Error cuda = error_of([] { open_device("cuda:0"); });
  if (simt::emulated) expect(std::string(cuda.code()) == "ERR_DEVICE", cuda.what());
}

}  // namespace

int main() {
  const std::shared_ptr<Device> device = simt::open_subject();
  steps_and_scores_agree(device);
  schedules_do_not_matter(device);
  an_illegal_id_is_told(device);
  questions_are_answered(device);
  runs_are_captured(device);
  inputs_are_sent_ahead(device);
  tiles_are_laid_open(device);
  what_cannot_run_is_refused(device);
  return simt::report("device_plan_test");
}
