// A whole training step and a scorer as compiled graphs, on the emulated device and by the reference in double: one stream,
// one wait, parameters and optimizer state in the device's memory.
#include "kernels/cuda/kernels.h"
#include "simt/device_plan.h"

namespace {

void expect_near(const std::vector<double>& found, const std::vector<double>& want, const std::string& what, double allowed = 2e-5) {
  double most = 1e-3, worst = 0;
  for (double w : want) most = std::max(most, std::fabs(w));
  for (size_t i = 0; i < want.size(); ++i) {
    const double off = std::fabs(found[i] - want[i]);
    if (!(off <= worst)) worst = off;
  }
  expect(worst <= allowed * most, what + ": off by " + std::to_string(worst) + " of " + std::to_string(most));
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

// fp16 activations and gradients against the same in double, rounded where the graph says f16: what is left is a rounding that falls the other way.
void half_steps_agree(const std::shared_ptr<Device>& device) {
  constexpr double kAllowed = 2e-3;
  Subject exact(Backend::reference, nullptr), emulated(Backend::cuda, device);
  Executor want_step = exact.compile(training_step(f16)), step = emulated.compile(training_step(f16));
  Executor want_score = exact.compile(scorer(f16)), score = emulated.compile(scorer(f16));
  Batch batch;
  for (int t = 1; t <= 3; ++t) {
    const std::string when = "fp16 step " + std::to_string(t) + " ";
    batch.hyper[3] = static_cast<float>(t);
    const Ran want = run(want_step, batch), found = run(step, batch);
    expect(want.error.empty() && found.error.empty(), want.error + found.error);
    for (const auto& [name, values] : want.outputs) expect_near(wide(found.outputs.at(name)), wide(values), when + name, kAllowed);
    for (const StoreDescription& s : stores) expect_near(emulated.store(s.name), exact.store(s.name), when + "store " + s.name, kAllowed);
    expect_near(wide(run(score, batch).outputs.at("logits")), wide(run(want_score, batch).outputs.at("logits")), when + "logits", kAllowed);
    expect(emulated.store("loss_scale")[0] == (t < 2 ? 1024 : 2048), when + "the scale doubles after two good steps");
  }
}

// Gradients that f16 has no number for: the step is left out as a whole, on the device, and the scale is halved until they fit.
void overflow_is_left_out(const std::shared_ptr<Device>& device) {
  std::vector<std::vector<double>> first;
  for (const simt::Schedule schedule : {simt::Schedule::forward, simt::Schedule::reverse, simt::Schedule::random}) {
    simt::options().schedule = schedule;
    Subject subject(Backend::cuda, device);
    Executor step = subject.compile(training_step(f16));
    Batch batch;
    float scale = 0x1p21f;
    subject.state->write("loss_scale", 0, list(&scale, f32, 1));
    int skipped = 0, stepped = 0;
    while (stepped < 4) {
      std::vector<std::vector<double>> before;
      const auto held = [&] {
        std::vector<std::vector<double>> all;
        for (const StoreDescription& s : stores)
          if (s.name != "grad" && s.name != "loss_scale" && s.name != "good") all.push_back(subject.store(s.name));
        return all;
      };
      before = held();
      const float was = static_cast<float>(subject.store("loss_scale")[0]);
      batch.hyper[3] = static_cast<float>(stepped + 1);
      const Ran ran = run(step, batch);
      expect(ran.error.empty() && std::isfinite(ran.outputs.at("loss")[0]), "the loss of a step that overflows: " + ran.error);
      const float now = static_cast<float>(subject.store("loss_scale")[0]);
      if (std::isfinite(ran.outputs.at("norm")[0])) {
        ++stepped;
        expect(held() != before && now == (subject.store("good")[0] == 0 ? 2 * was : was), "a good step");
      } else {
        ++skipped;
        expect(held() == before, "a step that overflows changed parameters or the optimizers' state");
        expect(now == was / 2 && subject.store("good")[0] == 0, "the scale is halved");
      }
      if (skipped + stepped > 40) return expect(false, "the scale does not settle");
    }
    expect(skipped >= 2, "the first scale overflows: " + std::to_string(skipped));
    std::vector<std::vector<double>> all;
    for (const StoreDescription& s : stores) all.push_back(subject.store(s.name));
    if (first.empty()) first = all;
    expect(all == first, "what fp16 steps leave depends on the schedule of threads");
  }
  simt::options().schedule = simt::Schedule::forward;
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
  Executor half = subject.compile(training_step(f16));
  expect(run(half, bad).code == "ERR_KERNEL" && subject.store("loss_scale")[0] == 1024, "a step with an illegal id changed the loss scale");
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
  const Error half = error_of([&] { host.compile(scorer(f16)); });
  expect(std::string(half.code()) == "ERR_DEVICE" && std::string(half.what()) == "value 'x': fp16 runs on CUDA; use bf16 or fp32 on the CPU", half.what());
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
  half_steps_agree(device);
  overflow_is_left_out(device);
  schedules_do_not_matter(device);
  an_illegal_id_is_told(device);
  questions_are_answered(device);
  tiles_are_laid_open(device);
  what_cannot_run_is_refused(device);
  return simt::report("device_plan_test");
}
