// The placer and the executor without JavaScript. Small, so that it can run under sanitizers.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <thread>

#include "check.h"
#include "plan/convert.h"
#include "plan/executor.h"
#include "runtime/error.h"

using namespace longer;

std::atomic<int64_t> allocations{0};
__attribute__((noinline)) void* operator new(size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, size_t) noexcept { std::free(p); }

void placed_blocks_do_not_overlap() {
  std::mt19937 random(2);
  BlockPlacer placer;
  for (int round = 0; round < 200; ++round) {
    std::vector<Block> blocks(1 + random() % 80);
    int64_t widest = 0;
    std::vector<int64_t> live(64, 0);
    for (Block& b : blocks) {
      b.bytes = 64 * static_cast<int64_t>(random() % 50);
      b.first = static_cast<int>(random() % 60);
      b.last = std::min(63, b.first + static_cast<int>(random() % 10));
      for (int t = b.first; t <= b.last; ++t) widest = std::max(widest, live[static_cast<size_t>(t)] += b.bytes);
    }
    const int64_t peak = placer.place(blocks);
    CHECK(peak >= widest && peak <= 2 * widest);
    for (size_t i = 0; i < blocks.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const Block &a = blocks[i], &b = blocks[j];
        const bool in_time = a.first <= b.last && b.first <= a.last;
        const bool in_space = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes && a.bytes > 0 && b.bytes > 0;
        CHECK(!(in_time && in_space));
      }
  }
}

void arena_grows_and_is_aligned() {
  Arena arena;
  for (int64_t bytes : {0, 1, 100, 1 << 20, 5 << 20, 3 << 20}) {
    uint8_t* data = arena.reserve(bytes);
    CHECK(data && reinterpret_cast<uintptr_t>(data) % kAlignment == 0);
    if (bytes) data[0] = data[bytes - 1] = 1;
    CHECK(arena.capacity() >= bytes);
  }
}

Dim fixed(int64_t n) { return {n, {}}; }
Dim rows() { return {0, {{0, 1}}}; }

// y = (a + w) + a, over T rows of 2
GraphDescription sum_graph(const std::string& op = "add") {
  GraphDescription g;
  g.symbols = {"T"};
  const std::vector<Dim> dims = {rows(), fixed(2)};
  g.values = {{"a", DType::f32, dims, Place::input, "", 0},
              {"w", DType::f32, dims, Place::store, "w", 2},
              {"t", DType::f32, dims, Place::arena, "", 0},
              {"y", DType::f32, dims, Place::output, "", 0}};
  g.nodes = {{op, "first", {0, 1}, {2}, {}}, {"add", "second", {2, 0}, {3}, {}}};
  return g;
}

struct RunTask final : Task {
  RunTask(Executor& e, RunRequest& r) : executor(e), request(r) {}
  Executor& executor;
  RunRequest& request;
  RunOutcome outcome;
  std::string error;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  void run(Runtime&) noexcept override {
    error = message_of([&] { executor.run(request, outcome); });
    std::lock_guard<std::mutex> lock(mutex);
    done = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return done; });
  }
};

void sums_are_right(Backend backend, int threads) {
  auto runtime = std::make_shared<Runtime>(threads);
  auto state = std::make_shared<State>(std::vector<StoreDescription>{{"w", DType::f32, 1002}}, backend);
  std::vector<float> w(1002);
  std::iota(w.begin(), w.end(), 0.0f);
  Tensor whole;
  whole.data = w.data();
  whole.rank = 1;
  whole.dim[0] = 1002;
  state->write("w", 0, whole);
  Executor executor(sum_graph(), state, runtime, backend);
  for (int round = 0; round < 40; ++round) {
    const int64_t t = (round * 37) % 501;
    std::vector<float> a(static_cast<size_t>(2 * t), 1.0f), y(a.size());
    RunRequest request;
    request.sizes = std::vector<double>{static_cast<double>(t)};
    request.inputs = {{a.data(), DType::f32, 2 * t, false}};
    request.outputs = {{y.data(), DType::f32, 2 * t, round % 5 == 4}};
    request.profile = request.check_finite = true;
    executor.check(request);
    RunTask task(executor, request);
    runtime->post(&task);
    if (round % 3 == 0) CHECK(executor.promise({500.0}).arena >= 500 * 2 * 4);  // alongside the run
    task.wait();
    CHECK(task.error.empty() && task.outcome.times.size() == 2 && task.outcome.first_non_finite == -1);
    if (round % 5 != 4)
      for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == static_cast<float>(i) + 4.0f);
  }
  RunRequest cancelled;
  cancelled.sizes = {0.0};
  cancelled.cancelled = true;
  cancelled.inputs = {{nullptr, DType::f32, 0, false}};
  cancelled.outputs = {{}};
  RunTask task(executor, cancelled);
  runtime->post(&task);
  task.wait();
  CHECK(task.outcome.cancelled);

  const auto refused = [&](double size, int64_t count, DType type) {
    RunRequest request;
    request.sizes = {size};
    request.inputs = {{w.data(), type, count, false}};
    request.outputs = {{}};
    return message_of([&] { executor.check(request); });
  };
  CHECK(refused(3, 5, DType::f32).find("input 'a': expected 6 elements") == 0);
  CHECK(refused(3, 6, DType::i32).find("input 'a': expected a Float32Array") == 0);
  CHECK(refused(501, 1002, DType::f32).find("outside store 'w'") != std::string::npos);
  CHECK(refused(-1, 0, DType::f32).find("size 'T'") == 0);
  CHECK(refused(9e15, 0, DType::f32).find("too large") != std::string::npos);
}

// Another thread does runs itself while the runtime is free, and posts others; each has the same results.
void another_thread_enters(int threads) {
  auto runtime = std::make_shared<Runtime>(threads);
  auto state = std::make_shared<State>(std::vector<StoreDescription>{{"w", DType::f32, 20002}}, Backend::cpu);
  Executor executor(sum_graph(), state, runtime, Backend::cpu);
  int entered = 0;
  for (int round = 0; round < 60; ++round) {
    const int64_t t = round % 2 == 0 ? 10000 : 5000;
    std::vector<float> a(static_cast<size_t>(2 * t), static_cast<float>(round)), mine(a.size()), posted(a.size());
    const auto request_for = [&](RunRequest& request, std::vector<float>& y) {
      request.sizes = {static_cast<double>(t)};
      request.inputs = {{a.data(), DType::f32, 2 * t, false}};
      request.outputs = {{y.data(), DType::f32, 2 * t, false}};
    };
    RunRequest first, second;
    request_for(first, posted);
    request_for(second, mine);
    RunTask task(executor, first);
    if (round % 3 > 0) runtime->post(&task);
    if (round % 3 == 1) std::this_thread::yield();
    if (round % 3 == 2) task.wait();
    bool inside = runtime->try_enter();
    while (!inside && round % 3 != 1) inside = runtime->try_enter();  // soon: nothing is queued
    if (inside) {
      CHECK(!runtime->try_enter());
      if (round % 3 == 0) runtime->post(&task);  // waits for leave()
      if (round > 6) CHECK(executor.is_short(second, 1e9) && !executor.is_short(second, 1e-9));
      RunOutcome outcome;
      executor.run(second, outcome);
      runtime->leave();
      ++entered;
      for (float y : mine) CHECK(y == static_cast<float>(2 * round));
    }
    task.wait();
    for (float y : posted) CHECK(y == static_cast<float>(2 * round));
  }
  CHECK(entered >= 40);
  RunRequest request;
  request.sizes = {7000.0};
  CHECK(executor.is_short(request, 1e9));  // a larger one was seen
  request.sizes = {10001.0};
  CHECK(!executor.is_short(request, 1e9));
}

// h = x w, dw = x^T h, y = merge(h) by groups of 3 over two segments; tiles of `rows`, or (0) three nodes.
GraphDescription merged_graph(int64_t rows_a_tile) {
  GraphDescription g;
  g.symbols = {"T", "G"};
  const Dim groups{0, {{1, 1}}};
  g.values = {{"x", DType::f32, {rows(), fixed(4)}, Place::input, "", 0},
              {"offsets", DType::i32, {fixed(3)}, Place::input, "", 0},
              {"groups", DType::i32, {fixed(3)}, Place::input, "", 0},
              {"w", DType::f32, {fixed(4), fixed(2)}, Place::store, "w", 0},
              {"h", DType::f32, {rows(), fixed(2)}, Place::arena, "", 0},
              {"dw", DType::f32, {fixed(4), fixed(2)}, Place::output, "", 0},
              {"y", DType::f32, {groups, fixed(6)}, Place::output, "", 0}};
  std::vector<Node> body = {{"linear", "h", {0, 3}, {4}, {0}}, {"linear_dw", "dw", {0, 4}, {5}, {}}, {"merge", "y", {4, 1, 2}, {6}, {3}}};
  if (rows_a_tile == 0) {
    g.nodes = std::move(body);
    return g;
  }
  auto tile = std::make_shared<Tile>();
  tile->symbol = 0;
  tile->rows = rows_a_tile;
  tile->group_size = 3;
  tile->offsets = 1;
  tile->group_offsets = 2;
  tile->roles = {{0, TileRole::row}, {1, TileRole::offsets}, {2, TileRole::group_offsets}, {3, TileRole::whole},
                 {4, TileRole::inner}, {5, TileRole::sum}, {6, TileRole::group}};
  tile->body = std::move(body);
  g.nodes = {{"tiled", "all", {0, 1, 2, 3}, {5, 6}, {}, tile}};
  return g;
}

struct Merged {
  std::vector<float> dw = std::vector<float>(8), y;
  int64_t allocations = 0;
};

Merged run_merged(int64_t rows_a_tile, int threads, Backend backend, int32_t first, int32_t second) {
  auto runtime = std::make_shared<Runtime>(threads);
  auto state = std::make_shared<State>(std::vector<StoreDescription>{{"w", DType::f32, 8}}, backend);
  std::vector<float> w = {1, -2, 3, -4, 5, -6, 7, -8}, x(static_cast<size_t>(4 * (first + second)));
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  Tensor whole;
  whole.data = w.data();
  whole.rank = 1;
  whole.dim[0] = 8;
  state->write("w", 0, whole);
  Executor executor(merged_graph(rows_a_tile), state, runtime, backend);
  std::vector<int32_t> offsets = {0, first, first + second}, groups = {0, (first + 2) / 3, (first + 2) / 3 + (second + 2) / 3};
  Merged result;
  result.y.resize(static_cast<size_t>(6 * groups[2]));
  RunRequest request;
  request.sizes = {static_cast<double>(first + second), static_cast<double>(groups[2])};
  request.inputs = {{x.data(), DType::f32, static_cast<int64_t>(x.size()), false}, {offsets.data(), DType::i32, 3, false}, {groups.data(), DType::i32, 3, false}};
  request.outputs = {{result.dw.data(), DType::f32, 8, false}, {result.y.data(), DType::f32, static_cast<int64_t>(result.y.size()), false}};
  request.check_finite = true;
  executor.check(request);
  for (int round = 0; round < 3; ++round) {
    RunTask task(executor, request);
    const int64_t before = allocations;
    runtime->post(&task);
    task.wait();
    result.allocations = allocations - before;
    CHECK(task.error.empty() && task.outcome.first_non_finite == -1);
  }
  CHECK(rows_a_tile == 0 || executor.promise(request.sizes).arena > 0);
  return result;
}

void tiles_are_right() {
  for (Backend backend : {Backend::cpu, Backend::reference})
    for (auto [first, second] : {std::pair<int32_t, int32_t>{0, 0}, {1, 0}, {0, 7}, {200, 301}}) {
      const Merged want = run_merged(0, 1, backend, first, second);
      for (int64_t rows_a_tile : {1, 3, 8, 1000}) {
        const Merged one = run_merged(rows_a_tile, 1, backend, first, second), three = run_merged(rows_a_tile, 3, backend, first, second);
        CHECK(one.y == want.y && three.y == want.y && one.dw == three.dw);
        for (size_t i = 0; i < 8; ++i) CHECK(std::fabs(one.dw[i] - want.dw[i]) <= 1e-5f * (1 + std::fabs(want.dw[i])) + 1e-2f);
        // What posting a task takes is the same without tiles.
        if (backend == Backend::cpu) CHECK(one.allocations <= want.allocations);
      }
    }
}

void bad_tiles_are_refused() {
  auto state = std::make_shared<State>(std::vector<StoreDescription>{{"w", DType::f32, 8}}, Backend::cpu);
  const auto refusal = [&](auto&& change) {
    GraphDescription g = merged_graph(8);
    Tile tile = *g.nodes[0].tile;
    change(tile, g);
    g.nodes[0].tile = std::make_shared<Tile>(tile);
    return message_of([&] { CompiledGraph(std::move(g), state, Backend::cpu); });
  };
  CHECK(refusal([](Tile&, GraphDescription&) {}).empty());
  CHECK(refusal([](Tile& t, GraphDescription&) { t.rows = 0; }).find("a tile needs") != std::string::npos);
  CHECK(refusal([](Tile& t, GraphDescription&) { t.roles[4].second = TileRole::row; }).find("'h' leads outside") != std::string::npos);
  CHECK(refusal([](Tile& t, GraphDescription&) { t.roles[3].second = TileRole::row; }).find("'w' does not have the rows") != std::string::npos);
  CHECK(refusal([](Tile& t, GraphDescription&) { t.roles.pop_back(); }).find("'y' has no role") != std::string::npos);
  CHECK(refusal([](Tile& t, GraphDescription&) { std::swap(t.body[0], t.body[1]); }).find("'h' is read before") != std::string::npos);
  CHECK(refusal([](Tile& t, GraphDescription&) { t.body[0].op = "nope"; }) == "node 0 'h' (nope): there is no operation 'nope'");
  CHECK(refusal([](Tile& t, GraphDescription&) { t.offsets = -1; }).find("offsets") != std::string::npos);
  CHECK(refusal([](Tile&, GraphDescription& g) { g.nodes.push_back({"add", "after", {4, 4}, {4}, {}}); }).find("'h' before any node") != std::string::npos);
}

void bad_graphs_are_refused() {
  auto state = std::make_shared<State>(std::vector<StoreDescription>{{"w", DType::f32, 10}}, Backend::cpu);
  const auto refusal = [&](GraphDescription g) { return message_of([&] { CompiledGraph(std::move(g), state, Backend::cpu); }); };
  CHECK(refusal(sum_graph()).empty());
  CHECK(refusal(sum_graph("nope")) == "node 0 'first' (nope): there is no operation 'nope'");
  auto g = sum_graph();
  g.nodes[1].inputs[0] = 9;
  CHECK(refusal(g).find("node 1 'second' (add): no value has index 9") == 0);
  g = sum_graph();
  g.nodes.erase(g.nodes.begin());
  CHECK(refusal(g).find("reads 't' before any node writes it") != std::string::npos);
  g = sum_graph();
  g.values[1].dims = {fixed(9)};
  CHECK(refusal(g).find("outside store 'w'") != std::string::npos);
  g = sum_graph();
  g.values[1].store = "v";
  CHECK(refusal(g).find("no store 'v'") != std::string::npos);
}

// Every number of f16 is itself; what lies between two neighbours goes to the nearer one, from half-way to the even one.
void halves_round_to_even() {
  const auto wide = [](uint16_t bits) {
    double value;
    convert(&bits, DType::f16, &value, DType::f64, 1);
    return value;
  };
  const auto narrow = [](double value) {
    uint16_t bits;
    convert(&value, DType::f64, &bits, DType::f16, 1);
    return bits;
  };
  for (int i = 0; i <= 0x7c00; ++i)
    for (const int sign : {0, 0x8000}) {
      const uint16_t bits = static_cast<uint16_t>(i | sign), next = static_cast<uint16_t>(bits + 1);
      CHECK(narrow(wide(bits)) == bits);
      if (i == 0x7c00) continue;
      const double here = wide(bits), there = i == 0x7bff ? (sign ? -65536.0 : 65536.0) : wide(next), middle = (here + there) / 2;
      CHECK(narrow(middle) == (i % 2 ? next : bits));
      CHECK(narrow(std::nextafter(middle, here)) == bits && narrow(std::nextafter(middle, there)) == next);
    }
  CHECK(wide(0x3c00) == 1 && wide(0x7bff) == 65504 && wide(1) == 0x1p-24 && std::isinf(wide(0x7c00)) && std::isnan(wide(0x7e00)));
  CHECK(std::isnan(wide(narrow(NAN))) && narrow(-1e300) == 0xfc00 && narrow(1e-300) == 0 && std::signbit(wide(narrow(-1e-300))));
  double values[] = {1.0 / 3, 70000};
  round_to(DType::f16, values, 2);
  CHECK(values[0] == wide(0x3555) && std::isinf(values[1]));
}

int main() {
  placed_blocks_do_not_overlap();
  arena_grows_and_is_aligned();
  for (Backend backend : {Backend::cpu, Backend::reference})
    for (int threads : {1, 3}) sums_are_right(backend, threads);
  for (int threads : {1, 3}) another_thread_enters(threads);
  bad_graphs_are_refused();
  tiles_are_right();
  bad_tiles_are_refused();
  halves_round_to_even();
  std::puts("plan: ok");
  return 0;
}
