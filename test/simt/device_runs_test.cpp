// Runs of a plan on a device one after another: captured as graphs, and with inputs that are sent ahead.
#include <future>

#include "simt/device_plan.h"

namespace {

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

}  // namespace

int main() {
  const std::shared_ptr<Device> device = simt::open_subject();
  runs_are_captured(device);
  inputs_are_sent_ahead(device);
  return simt::report("device_runs_test");
}
