// cpu attention kernels against the reference, the reference's gradients against finite differences, and the bits:
// any thread count, alone or in a batch, with or without what a row does not see.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/op.h"
#include "runtime/cpu_features.h"

using namespace longer;

namespace {

int passed = 0, failed = 0;
std::mt19937 rng(7);

void expect(bool holds, const std::string& what) {
  holds ? ++passed : ++failed;
  if (!holds) std::printf("FAIL %s\n", what.c_str());
}

int64_t random_int(int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % (high - low + 1)); }

uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

struct Array {
  std::vector<double> values;
  std::vector<int64_t> shape;
  bool keeps_f32 = false, integers = false;
};

Array matrix(int64_t rows, int64_t cols, double size = 1) {
  Array a{std::vector<double>(rows * cols), {rows, cols}};
  std::normal_distribution<double> normal(0, size);
  for (double& x : a.values) x = from_bf16(to_bf16(static_cast<float>(normal(rng))));  // exact in every type
  return a;
}

Array indices(const std::vector<int64_t>& values) {
  Array a{std::vector<double>(values.begin(), values.end()), {static_cast<int64_t>(values.size())}};
  a.integers = true;
  return a;
}

Array blank(int64_t rows, int64_t cols, bool keeps_f32 = false) {
  Array a{std::vector<double>(rows * cols), {rows, cols}};
  a.keeps_f32 = keeps_f32;
  return a;
}

struct Problem {
  std::string op;
  std::vector<Array> in, out;
  std::vector<double> attr;
};

const Op& op_named(const std::string& name) {
  const OpList list = attention_ops();
  for (int i = 0; i < list.count; ++i)
    if (name == list.ops[i].name) return list.ops[i];
  std::printf("no op %s\n", name.c_str());
  std::exit(2);
}

// Runs an op in one type and returns its outputs as double; bytes beyond the workspace are watched.
std::vector<Array> run(const Problem& problem, DType type, int threads = 1) {
  const bool reference = type == DType::f64;
  std::vector<Tensor> tensors;
  std::vector<std::vector<char>> memory;
  const auto place = [&](const Array& a, bool fill) {
    Tensor t;
    t.rank = static_cast<int>(a.shape.size());
    for (int i = 0; i < t.rank; ++i) t.dim[i] = a.shape[i];
    t.dtype = a.integers ? DType::i32 : a.keeps_f32 && !reference ? DType::f32 : type;
    memory.emplace_back(t.bytes() + 1, static_cast<char>(0xff));  // NaN where nothing is written
    t.data = memory.back().data();
    for (int64_t i = 0; fill && i < t.size(); ++i) {
      const double x = a.values[i];
      if (t.dtype == DType::i32) t.i32()[i] = static_cast<int32_t>(x);
      if (t.dtype == DType::f32) t.f32()[i] = static_cast<float>(x);
      if (t.dtype == DType::f64) t.f64()[i] = x;
      if (t.dtype == DType::bf16) t.bf16()[i] = to_bf16(static_cast<float>(x));
    }
    tensors.push_back(t);
  };
  memory.reserve(problem.in.size() + problem.out.size());
  for (const Array& a : problem.in) place(a, true);
  for (const Array& a : problem.out) place(a, false);
  ThreadPool pool(threads);
  Call call;
  call.in = tensors.data();
  call.ins = static_cast<int>(problem.in.size());
  call.out = tensors.data() + problem.in.size();
  call.outs = static_cast<int>(problem.out.size());
  call.attr = problem.attr.data();
  call.attrs = static_cast<int>(problem.attr.size());
  call.pool = &pool;
  const Op& op = op_named(problem.op);
  if (reference) {
    op.reference(call);
  } else {
    const int64_t bytes = op.workspace(call);
    std::vector<char> workspace(bytes + 128, static_cast<char>(0xff));
    char* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
    call.workspace = aligned;
    op.cpu(call);
    for (int i = 0; i < 64; ++i)
      if (aligned[bytes + i] != static_cast<char>(0xff)) expect(false, problem.op + " wrote beyond its workspace");
  }
  std::vector<Array> result = problem.out;
  for (size_t o = 0; o < result.size(); ++o) {
    const Tensor& t = call.out[o];
    for (int64_t i = 0; i < t.size(); ++i)
      result[o].values[i] = t.dtype == DType::f64 ? t.f64()[i] : t.dtype == DType::f32 ? t.f32()[i] : from_bf16(t.bf16()[i]);
  }
  return result;
}

bool same_bits(const std::vector<Array>& a, const std::vector<Array>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!a[i].values.empty() && std::memcmp(a[i].values.data(), b[i].values.data(), a[i].values.size() * sizeof(double))) return false;
  return true;
}

void expect_close(const Problem& problem, const std::vector<Array>& want, const std::vector<Array>& got, double tolerance) {
  for (size_t o = 0; o < want.size(); ++o) {
    double size = 1e-30, worst = 0;
    for (double x : want[o].values)
      if (std::isfinite(x)) size = std::max(size, std::fabs(x));
    for (size_t i = 0; i < want[o].values.size(); ++i) {
      const double x = want[o].values[i], y = got[o].values[i];
      const double error = x == y ? 0 : std::fabs(x - y) / size;
      worst = error <= worst ? worst : std::isnan(error) ? 1e9 : error;
    }
    expect(worst <= tolerance, problem.op + " output " + std::to_string(o) + ": error " + std::to_string(worst));
  }
}

std::vector<int64_t> offsets_of(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets = {0};
  for (int64_t n : lengths) offsets.push_back(offsets.back() + n);
  return offsets;
}

struct Lengths {
  std::vector<int64_t> queries, keys;
};

Problem attention_problem(const Lengths& n, int64_t heads, int64_t head_width, bool causal) {
  const auto q = offsets_of(n.queries), k = offsets_of(n.keys);
  const int64_t width = heads * head_width;
  std::vector<int64_t> limits;
  for (size_t b = 0; b < n.queries.size(); ++b)
    for (int64_t r = 0; r < n.queries[b]; ++r)
      limits.push_back(causal ? std::max<int64_t>(0, n.keys[b] - n.queries[b] + r + 1) : random_int(0, n.keys[b]));
  return {"attention",
          {matrix(q.back(), width), matrix(k.back(), width), matrix(k.back(), width), indices(q), indices(k), indices(limits)},
          {blank(q.back(), width), blank(q.back(), heads, true)},
          {static_cast<double>(heads), 1 / std::sqrt(static_cast<double>(head_width))}};
}

Problem candidate_problem(const Lengths& n, int64_t heads, int64_t head_width, int64_t m) {
  const auto c = offsets_of(n.queries), k = offsets_of(n.keys);
  const int64_t width = heads * head_width, rows = c.back() * m;
  return {"candidate_attention",
          {matrix(rows, width), matrix(rows, width), matrix(rows, width), matrix(k.back(), width), matrix(k.back(), width),
           indices(c), indices(k)},
          {blank(rows, width), blank(rows, heads, true)},
          {static_cast<double>(heads), 1 / std::sqrt(static_cast<double>(head_width)), static_cast<double>(m)}};
}

Problem group_problem(const std::vector<int64_t>& events, int64_t heads, int64_t head_width, int64_t group) {
  const auto e = offsets_of(events);
  const int64_t width = heads * head_width;
  return {"group_attention",
          {matrix(e.back(), width), matrix(e.back(), width), matrix(e.back(), width), indices(e)},
          {blank(e.back(), width)},
          {static_cast<double>(heads), 1 / std::sqrt(static_cast<double>(head_width)), static_cast<double>(group)}};
}

// The backward problem of a forward one, with o and lse as the forward op gave them.
Problem gradient_of(const Problem& forward, const std::vector<Array>& outputs, const Array& d_o) {
  Problem p;
  p.op = forward.op + "_dx";
  p.attr = forward.attr;
  size_t rows = 0;
  while (!forward.in[rows].integers) p.in.push_back(forward.in[rows++]);
  const bool group = forward.op == "group_attention";
  if (!group) {
    p.in.push_back(outputs[0]);
    p.in.push_back(outputs[1]);
  }
  p.in.push_back(d_o);
  for (size_t i = rows; i < forward.in.size(); ++i) p.in.push_back(forward.in[i]);
  for (size_t i = 0; i < rows; ++i) p.out.push_back(blank(forward.in[i].shape[0], forward.in[i].shape[1]));
  return p;
}

void check_against_reference(const Problem& forward) {
  const auto want = run(forward, DType::f64);
  const Array d_o = matrix(want[0].shape[0], want[0].shape[1]);
  const Problem exact = gradient_of(forward, want, d_o);
  const auto want_dx = run(exact, DType::f64);
  for (const DType type : {DType::f32, DType::bf16}) {
    const double tolerance = type == DType::f32 ? 4e-6 : 1.2e-2;
    const auto got = run(forward, type, 1);
    expect_close(forward, want, got, tolerance);
    expect(same_bits(got, run(forward, type, 3)), forward.op + ": 1 thread differs from 3");
    const Problem backward = gradient_of(forward, got, d_o);
    const auto got_dx = run(backward, type, 1);
    expect_close(backward, want_dx, got_dx, type == DType::f32 ? 2e-5 : 3e-2);
    expect(same_bits(got_dx, run(backward, type, 3)), backward.op + ": 1 thread differs from 3");
  }
}

void check_finite_differences(Problem forward) {
  const auto base = run(forward, DType::f64);
  const Array d_o = matrix(base[0].shape[0], base[0].shape[1]);
  const auto gradient = run(gradient_of(forward, base, d_o), DType::f64);
  const auto loss = [&] {
    const auto out = run(forward, DType::f64);
    double sum = 0;
    for (size_t i = 0; i < out[0].values.size(); ++i) sum += out[0].values[i] * d_o.values[i];
    return sum;
  };
  double worst = 0;
  for (size_t o = 0; o < gradient.size(); ++o)
    for (int sample = 0; sample < 12 && !gradient[o].values.empty(); ++sample) {
      const int64_t at = random_int(0, static_cast<int64_t>(gradient[o].values.size()) - 1);
      double& x = forward.in[o].values[at];
      const double kept = x, step = 1e-5;
      x = kept + step;
      const double above = loss();
      x = kept - step;
      const double below = loss();
      x = kept;
      worst = std::max(worst, std::fabs((above - below) / (2 * step) - gradient[o].values[at]));
    }
  expect(worst < 1e-7, forward.op + ": finite differences differ by " + std::to_string(worst));
}

Array rows_of(const Array& a, int64_t begin, int64_t end) {
  Array part = a;
  const int64_t cols = a.shape[1];
  part.shape[0] = end - begin;
  part.values.assign(a.values.begin() + begin * cols, a.values.begin() + end * cols);
  return part;
}

// Request b alone must give the bits it gives in the batch, forward and backward.
void check_alone(const Problem& forward, const std::vector<int64_t>& query_rows, const std::vector<int64_t>& key_rows) {
  const auto q = offsets_of(query_rows), k = offsets_of(key_rows);
  const auto batch = run(forward, DType::f32, 2);
  const Array d_o = matrix(batch[0].shape[0], batch[0].shape[1]);
  const auto batch_dx = run(gradient_of(forward, batch, d_o), DType::f32, 2);
  const bool candidates = forward.op == "candidate_attention";
  const auto shared = [&](size_t i) { return candidates ? i >= 3 : i >= 1; };  // inputs with a row a key
  for (size_t b = 0; b < query_rows.size(); ++b) {
    Problem alone = forward;
    alone.in.clear();
    for (size_t i = 0; i < forward.in.size(); ++i) {
      if (!forward.in[i].integers) {
        alone.in.push_back(shared(i) ? rows_of(forward.in[i], k[b], k[b + 1]) : rows_of(forward.in[i], q[b], q[b + 1]));
      } else if (forward.op == "attention" && i == 5) {
        alone.in.push_back(indices(std::vector<int64_t>(forward.in[i].values.begin() + q[b], forward.in[i].values.begin() + q[b + 1])));
      } else {
        const int64_t n = static_cast<int64_t>(forward.in[i].values[b + 1] - forward.in[i].values[b]);
        alone.in.push_back(indices({0, n}));
      }
    }
    std::vector<Array> want, want_dx;
    for (size_t o = 0; o < batch.size(); ++o) want.push_back(rows_of(batch[o], q[b], q[b + 1]));
    for (size_t o = 0; o < batch_dx.size(); ++o)
      want_dx.push_back(shared(o) ? rows_of(batch_dx[o], k[b], k[b + 1]) : rows_of(batch_dx[o], q[b], q[b + 1]));
    alone.out.clear();
    for (const Array& a : want) alone.out.push_back(a);
    const auto got = run(alone, DType::f32, 1);
    expect(same_bits(got, want), forward.op + ": a request alone differs from the batch");
    const auto got_dx = run(gradient_of(alone, got, rows_of(d_o, q[b], q[b + 1])), DType::f32, 1);
    expect(same_bits(got_dx, want_dx), forward.op + "_dx: a request alone differs from the batch");
  }
}

// One candidate must score the same bits alone as among many.
void check_candidate_alone() {
  const int64_t m = 2, many = 150;
  const Problem p = candidate_problem({{many}, {201}}, 2, 32, m);
  const auto all = run(p, DType::f32);
  for (const int64_t c : {int64_t{0}, int64_t{59}, int64_t{61}, many - 1}) {
    Problem one = p;
    for (int i = 0; i < 3; ++i) one.in[i] = rows_of(p.in[i], c * m, (c + 1) * m);
    one.in[5] = indices({0, 1});
    for (Array& o : one.out) o = rows_of(o, 0, m);
    const auto got = run(one, DType::f32);
    expect(same_bits(got, {rows_of(all[0], c * m, (c + 1) * m), rows_of(all[1], c * m, (c + 1) * m)}),
           "a candidate alone differs from the candidate among many");
  }
}

// Keys beyond a row's limit, even when they are not finite, and the limits of other rows leave a row's bits alone.
void check_hidden_keys() {
  Problem p = attention_problem({{40}, {130}}, 2, 24, false);
  p.in[5].values[7] = 37;
  const auto base = run(p, DType::f32);
  Problem poisoned = p;
  const int64_t width = p.in[1].shape[1];
  for (int64_t i = 37 * width; i < 130 * width; ++i)
    poisoned.in[1].values[i] = poisoned.in[2].values[i] = i % 2 ? std::numeric_limits<double>::quiet_NaN() : 1e30;
  for (double& x : poisoned.in[5].values) x = random_int(0, 130);
  poisoned.in[5].values[7] = 37;
  const auto got = run(poisoned, DType::f32);
  expect(same_bits({rows_of(base[0], 7, 8), rows_of(base[1], 7, 8)}, {rows_of(got[0], 7, 8), rows_of(got[1], 7, 8)}),
         "a row depends on keys that it does not see");
}

std::vector<int64_t> times(std::vector<int64_t> lengths, int64_t factor) {
  for (int64_t& n : lengths) n *= factor;
  return lengths;
}

}  // namespace

int main() {
  try {
    active_isa();
  } catch (const std::exception& error) {  // this CPU has not the instruction set that LONGER_ISA names
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  const int64_t widths[] = {64, 32, 16, 128, 5, 24, 1, 40};
  for (const int64_t width : widths)
    for (int round = 0; round < 3; ++round) {
      Lengths n;
      const int64_t requests = random_int(1, 6);
      for (int64_t b = 0; b < requests; ++b) {
        n.queries.push_back(random_int(0, 3) == 0 ? random_int(0, 1) : random_int(1, 140));
        n.keys.push_back(random_int(0, 4) == 0 ? random_int(0, 1) : random_int(1, 200));
      }
      const int64_t heads = random_int(1, 3);
      check_against_reference(attention_problem(n, heads, width, round == 0));
      Lengths c = n;
      for (int64_t& x : c.queries) x = random_int(0, 70);
      check_against_reference(candidate_problem(c, heads, width, round + 1));
      for (const int64_t group : {1, 2, 4, 8}) check_against_reference(group_problem(n.keys, heads, width, group));
    }
  check_against_reference(group_problem({100, 0, 3}, 2, 16, 20));
  check_against_reference(candidate_problem({{3, 1}, {70, 0}}, 1, 16, 130));
  check_against_reference(attention_problem({{}, {}}, 2, 16, false));
  check_against_reference(attention_problem({{300}, {700}}, 1, 64, true));

  check_finite_differences(attention_problem({{5, 0, 3}, {7, 2, 0}}, 2, 3, false));
  check_finite_differences(candidate_problem({{2, 0, 1}, {7, 2, 0}}, 2, 3, 2));
  check_finite_differences(group_problem({11, 0, 3}, 2, 3, 4));

  const Lengths n = {{100, 1, 0, 130, 17}, {180, 64, 5, 130, 0}};
  check_alone(attention_problem(n, 2, 32, true), n.queries, n.keys);
  check_alone(candidate_problem(n, 2, 32, 2), times(n.queries, 2), n.keys);
  for (const int64_t group : {2, 8}) {
    const std::vector<int64_t> events = {600, 3, 0, 1, 1029};
    check_alone(group_problem(events, 2, 16, group), events, events);
  }
  check_candidate_alone();
  check_hidden_keys();

  std::printf("attention_test: %d PASS, %d FAIL\n", passed, failed);
  return failed ? 1 : 0;
}
