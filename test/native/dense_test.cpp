// Dense operations: the cpu kernels against the reference on random shapes, and their bit-exactness contracts.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/op.h"
#include "runtime/arena.h"
#include "runtime/cpu_features.h"

using namespace longer;

namespace {

int passed = 0, failed = 0;

void expect(bool holds, const std::string& what) {
  if (holds) { ++passed; return; }
  if (++failed <= 30) std::printf("FAIL %s\n", what.c_str());
}

std::mt19937_64 random_bits(7);
double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_bits); }

// A tensor of a call: its true values in double, and the same in the type that the cpu kernel is to see.
struct Value {
  Tensor shape;
  std::vector<double> exact;
  std::vector<uint8_t> bytes;
  bool random = false;

  Tensor as_exact() { Tensor t = shape; if (t.dtype != DType::i32) { t.dtype = DType::f64; t.data = exact.data(); } else t.data = bytes.data(); return t; }
  Tensor as_typed() { Tensor t = shape; t.data = bytes.data(); return t; }
  double typed(int64_t i) const {
    if (shape.dtype == DType::f32) { float v; std::memcpy(&v, bytes.data() + 4 * i, 4); return v; }
    const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(bytes.data())[i]) << 16;
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
  }
};

Value absent() { return {}; }

Value make(DType type, std::vector<int64_t> dims, double low = 0, double high = 0) {
  Value v;
  v.shape.dtype = type;
  v.shape.rank = static_cast<int>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) v.shape.dim[i] = dims[i];
  const int64_t n = v.shape.size();
  v.bytes.assign(static_cast<size_t>(n * dtype_size(type)) + 1, 0xff);  // NaN until written
  v.exact.assign(static_cast<size_t>(n), 0);
  if (low == high) return v;
  for (int64_t i = 0; i < n; ++i) {
    const float f = static_cast<float>(uniform(low, high));
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    if (type == DType::bf16) bits &= 0xffff0000u;
    float kept;
    std::memcpy(&kept, &bits, 4);
    v.exact[i] = kept;
    if (type == DType::bf16) reinterpret_cast<uint16_t*>(v.bytes.data())[i] = static_cast<uint16_t>(bits >> 16);
    if (type == DType::f32) std::memcpy(v.bytes.data() + 4 * i, &bits, 4);
    if (type == DType::i32) { const int32_t w = static_cast<int32_t>(random_bits()); std::memcpy(v.bytes.data() + 4 * i, &w, 4); }
  }
  return v;
}

struct Case {
  std::string name;
  std::vector<Value> in, out;
  std::vector<double> attributes;
};

void run(Case& c, bool exact, int threads) {
  const Op* op = nullptr;
  const OpList list = dense_ops();
  for (int i = 0; i < list.count; ++i)
    if (c.name == list.ops[i].name) op = &list.ops[i];
  ThreadPool pool(threads);
  std::vector<Tensor> in, out;
  for (Value& v : c.in) in.push_back(exact ? v.as_exact() : v.as_typed());
  for (Value& v : c.out) out.push_back(exact ? v.as_exact() : v.as_typed());
  Call call{in.data(), static_cast<int>(in.size()), out.data(), static_cast<int>(out.size()),
            c.attributes.data(), static_cast<int>(c.attributes.size()), &pool, nullptr};
  if (exact) return op->reference(call);
  MemoryBlock block(op->workspace ? op->workspace(call) : 0);
  call.workspace = block.data();
  std::memset(block.data(), 0xff, static_cast<size_t>(block.bytes()));
  op->cpu(call);
}

std::string describe(const Case& c) {
  std::string text = c.name;
  for (const Value& v : c.in) {
    text += " [";
    for (int i = 0; i < v.shape.rank; ++i) text += (i ? "," : "") + std::to_string(v.shape.dim[i]);
    text += v.shape.dtype == DType::bf16 ? "]bf16" : "]";
  }
  for (const double a : c.attributes) text += " " + std::to_string(a);
  return text;
}

// Every output within tolerance * (magnitude of the output + 1), bf16 outputs within their rounding as well; the same
// bits with one thread and with three.
void compare(Case c, double tolerance) {
  run(c, true, 1);
  run(c, false, 1);
  double worst = 0;
  for (const Value& v : c.out) {
    if (!v.shape.present()) continue;
    const double rounding = v.shape.dtype == DType::bf16 ? 1.0 / 256 : 0;
    for (int64_t i = 0; i < v.shape.size(); ++i) {
      const double allowed = tolerance * (std::fabs(v.exact[i]) + 1) + rounding * std::fabs(v.exact[i]);
      const double error = std::fabs(v.typed(i) - v.exact[i]) / allowed;
      worst = error > worst || std::isnan(error) ? error : worst;
      if (std::isnan(error)) break;
    }
  }
  expect(worst <= 1, describe(c) + ": error " + std::to_string(worst) + " of what is allowed");
  Case again = c;
  run(again, false, 3);
  for (size_t i = 0; i < c.out.size(); ++i) expect(c.out[i].bytes == again.out[i].bytes, describe(c) + ": depends on threads");
}

DType pick(bool bf16) { return bf16 ? DType::bf16 : DType::f32; }

// What each matrix of a product is; the rest is f32.
struct Types {
  bool x, w, y, pre, residual;
};

Types same_types(bool x16) { return {x16, x16, x16, x16, x16}; }
Types some_types() {
  const uint64_t bits = random_bits();
  return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
}

// With activations in bf16 an f32 weight counts as its nearest bf16.
Value weight(const Types& t, std::vector<int64_t> dims, double range) {
  Value v = make(pick(t.w), dims, -range, range);
  if (!t.x || t.w) return v;
  for (double& w : v.exact) {
    const float f = static_cast<float>(w);
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    float kept;
    std::memcpy(&kept, &bits, 4);
    w = kept;
  }
  return v;
}

// Rows [begin, end) alone give the bits that they have in the whole. `by_rows` are the matrices that have these rows.
void expect_rows_alone(Case whole, std::vector<int> by_rows, int64_t begin, int64_t end) {
  run(whole, false, 1);
  Case part = whole;
  const auto cut = [&](Value& v) {
    if (!v.shape.present()) return;
    const int64_t row = v.shape.cols() * dtype_size(v.shape.dtype);
    v.bytes.assign(v.bytes.begin() + begin * row, v.bytes.begin() + end * row + 1);
    v.bytes.back() = 0xff;
    v.shape.dim[0] = end - begin;
  };
  for (const int i : by_rows) cut(part.in[i]);
  for (Value& v : part.out) cut(v);
  Case again = part;
  for (Value& v : again.out) std::fill(v.bytes.begin(), v.bytes.end(), 0xff);
  run(again, false, 1);
  for (size_t i = 0; i < part.out.size(); ++i)
    expect(again.out[i].bytes == part.out[i].bytes, describe(whole) + ": rows " + std::to_string(begin) + ".." + std::to_string(end) + " alone differ");
}

void expect_any_rows_alone(const Case& whole, const std::vector<int>& by_rows) {
  const int64_t rows = whole.in[0].shape.dim[0];
  if (rows == 0) return;
  expect_rows_alone(whole, by_rows, rows - 1, rows);
  const int64_t begin = static_cast<int64_t>(random_bits() % static_cast<uint64_t>(rows));
  expect_rows_alone(whole, by_rows, begin, begin + 1 + static_cast<int64_t>(random_bits() % static_cast<uint64_t>(rows - begin)));
}

void test_linear(int64_t rows, int64_t inner, int64_t cols, int activation, const Types& t, bool extras) {
  const double scale = 1 / std::sqrt(static_cast<double>(inner ? inner : 1));
  const auto optional = [&](bool bf16, std::vector<int64_t> dims, double range) { return extras ? make(pick(bf16), dims, -range, range) : absent(); };
  Case forward{"linear",
               {make(pick(t.x), {rows, inner}, -2, 2), weight(t, {inner, cols}, scale), optional(false, {cols}, 1),
                optional(t.residual, {rows, cols}, 1)},
               {make(pick(t.y), {rows, cols}), extras ? make(pick(t.pre), {rows, cols}) : absent()},
               {static_cast<double>(activation)}};
  compare(forward, 1e-5);
  expect_any_rows_alone(forward, {0, 3});
  Case dx{"linear_dx",
          {make(pick(t.x), {rows, cols}, -2, 2), weight(t, {inner, cols}, scale), optional(t.pre, {rows, inner}, 3),
           optional(t.residual, {rows, inner}, 1)},
          {make(pick(t.y), {rows, inner})},
          {static_cast<double>(activation)}};
  compare(dx, 2e-5);
  expect_any_rows_alone(dx, {0, 2, 3});
  Case dw{"linear_dw",
          {make(pick(t.x), {rows, inner}, -1, 1), make(pick(t.y), {rows, cols}, -1, 1)},
          {make(DType::f32, {inner, cols}), extras ? make(DType::f32, {cols}) : absent()},
          {}};
  compare(dw, 1e-4);
}

void test_elementwise(int64_t rows, int64_t cols, bool x16) {
  const DType t = pick(x16);
  const std::vector<int64_t> shape{rows, cols}, twice{rows, 2 * cols};
  for (int kind = 0; kind <= 5; ++kind) {
    compare({"activation", {make(t, shape, -8, 8)}, {make(t, shape)}, {static_cast<double>(kind)}}, 1e-6);
    compare({"activation_dx", {make(t, shape, -8, 8), make(t, shape, -1, 1)}, {make(t, shape)}, {static_cast<double>(kind)}}, 1e-6);
  }
  compare({"add", {make(t, shape, -1, 1), make(DType::f32, shape, -1, 1), make(t, shape, -1, 1)}, {make(t, shape)}, {}}, 1e-6);
  compare({"swiglu", {make(t, twice, -8, 8)}, {make(t, shape)}, {}}, 1e-6);
  compare({"swiglu_dx", {make(t, twice, -8, 8), make(t, shape, -1, 1)}, {make(t, twice)}, {}}, 2e-6);
  compare({"gate", {make(t, shape, -8, 8), make(t, shape, -8, 8)}, {make(t, shape)}, {}}, 1e-6);
  compare({"gate_dx", {make(t, shape, -8, 8), make(t, shape, -8, 8), make(t, shape, -1, 1)}, {make(t, shape), make(t, shape)}, {}}, 2e-6);
  compare({"dropout", {make(t, shape, -1, 1), make(DType::i32, {2}, 0, 1)}, {make(t, shape)}, {0.3, 5}}, 1e-6);
  compare({"cast", {make(t, shape, -1, 1)}, {make(pick(!x16), shape)}, {}}, 1e-7);
  for (const double kind : {0.0, 1.0}) {
    const bool rms = kind == 1;
    compare({"norm",
             {make(t, shape, -2, 3), make(DType::f32, {cols}, -1, 1), rms ? absent() : make(DType::f32, {cols}, -1, 1)},
             {make(t, shape), rms ? absent() : make(DType::f32, {rows}), make(DType::f32, {rows})},
             {kind, 1e-5}}, 2e-5);
    compare({"norm_dx",
             {make(t, shape, -2, 3), make(DType::f32, {cols}, -1, 1), rms ? absent() : make(DType::f32, {rows}, 0, 1),
              make(DType::f32, {rows}, 0.5, 1), make(t, shape, -1, 1), make(t, shape, -1, 1)},
             {make(t, shape), make(DType::f32, {cols}), rms ? absent() : make(DType::f32, {cols})},
             {kind}}, 5e-5);
  }
}

// The tail of GELU keeps its relative error.
void test_gelu_tail() {
  Case c{"activation", {make(DType::f32, {20000}, -5.5, 6)}, {make(DType::f32, {20000})}, {1}};
  run(c, true, 1);
  run(c, false, 1);
  double worst = 0;
  for (int64_t i = 0; i < 20000; ++i)
    worst = std::fmax(worst, std::fabs(c.out[0].typed(i) - c.out[0].exact[i]) / std::fabs(c.out[0].exact[i]));
  expect(worst < 8e-6, "gelu: relative error " + std::to_string(worst));
}

}  // namespace

int main() {
  try {
    active_isa();
  } catch (const std::exception& error) {  // this CPU has not the instruction set that LONGER_ISA names
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  const int64_t rows[] = {0, 1, 2, 5, 12, 16, 17, 23, 28, 29, 97, 300}, sizes[] = {1, 3, 16, 31, 32, 64, 65, 96, 130};
  for (int round = 0; round < 300; ++round) {
    const auto any = [&](const int64_t* list) { return list[random_bits() % 9]; };
    test_linear(any(rows), any(sizes), any(sizes), round % 6, some_types(), round % 4 != 0);
  }
  for (const bool x16 : {false, true}) {
    const Types same = same_types(x16), master{x16, false, x16, x16, x16};
    test_linear(5000, 40, 33, 1, same, true);
    test_linear(300, 512, 300, 0, master, true);
    test_linear(2100, 70, 270, 0, same, true);
    test_linear(9, 1030, 260, 2, master, true);
    test_linear(4, 0, 5, 1, same, true);
    for (const int64_t r : {0, 1, 7, 1500})
      for (const int64_t c : {1, 5, 16, 32, 100}) test_elementwise(r, c, x16);
  }
  test_gelu_tail();
  std::printf("%s: %d passed, %d failed\n", isa_name(active_isa()), passed, failed);
  return failed ? 1 : 0;
}
