// One call of an operation on made-up values, by the reference and by the cpu kernel.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/op.h"
#include "runtime/arena.h"
#include "runtime/cpu_features.h"

namespace longer::test {

inline int passed = 0, failed = 0;

inline void expect(bool holds, const std::string& what) {
  if (holds) { ++passed; return; }
  if (++failed <= 30) std::printf("FAIL %s\n", what.c_str());
}

inline std::mt19937_64 bits(7);
inline int64_t whole(int64_t low, int64_t high) { return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1)); }
inline double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(bits); }

inline uint16_t to_bf16(float x) {
  uint32_t b;
  std::memcpy(&b, &x, 4);
  return static_cast<uint16_t>((b + 0x7fff + ((b >> 16) & 1)) >> 16);
}
inline float from_bf16(uint16_t x) {
  const uint32_t b = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &b, 4);
  return y;
}

// A tensor as doubles that its type holds exactly.
struct Value {
  DType type = DType::f32;
  std::vector<int64_t> dims;
  std::vector<double> at;
  bool absent = false;

  int64_t rows() const { return dims.empty() ? 1 : dims[0]; }
  int64_t cols() const { return dims.size() < 2 ? 1 : dims[1]; }
  double operator()(int64_t r, int64_t c) const { return at[static_cast<size_t>(r * cols() + c)]; }
  double& operator()(int64_t r, int64_t c) { return at[static_cast<size_t>(r * cols() + c)]; }
};

inline Value blank(DType type, std::vector<int64_t> dims) {
  size_t n = 1;
  for (const int64_t d : dims) n *= static_cast<size_t>(d);
  return {type, std::move(dims), std::vector<double>(n, 0.0), false};
}
inline Value none() { return {DType::f32, {}, {}, true}; }

inline Value filled(DType type, std::vector<int64_t> dims, double low = -1, double high = 1) {
  Value v = blank(type, std::move(dims));
  for (double& x : v.at) {
    const float f = static_cast<float>(uniform(low, high));
    x = type == DType::bf16 ? from_bf16(to_bf16(f)) : f;
  }
  return v;
}

// Where segments of so many rows begin, and the last one ends.
inline std::vector<int64_t> running(const std::vector<int64_t>& counts) {
  std::vector<int64_t> offsets = {0};
  for (const int64_t n : counts) offsets.push_back(offsets.back() + n);
  return offsets;
}

inline Value integers(const std::vector<int64_t>& list) {
  return {DType::i32, {static_cast<int64_t>(list.size())}, std::vector<double>(list.begin(), list.end()), false};
}

struct Case {
  std::string op;
  std::vector<Value> in, out;  // out: what is there before the call, for operations in place
  std::vector<double> attributes;
};

struct Result {
  std::vector<std::vector<double>> values;
  std::vector<std::vector<uint8_t>> bytes;
};

inline Result run(const Case& c, bool reference, int threads) {
  const Op* op = find_op(c.op);
  if (!op) throw std::runtime_error("no operation " + c.op);
  std::vector<Tensor> tensors;
  std::vector<std::vector<uint8_t>> memory;
  memory.reserve(c.in.size() + c.out.size());
  for (const auto* list : {&c.in, &c.out})
    for (const Value& v : *list) {
      Tensor t;
      t.dtype = reference && v.type != DType::i32 ? DType::f64 : v.type;
      t.rank = v.absent ? -1 : static_cast<int>(v.dims.size());
      for (size_t d = 0; d < v.dims.size(); ++d) t.dim[d] = v.dims[d];
      memory.emplace_back(v.absent ? 64 : static_cast<size_t>(t.bytes()) + 64, 0xee);
      t.data = memory.back().data();
      for (size_t i = 0; i < v.at.size(); ++i) {
        if (t.dtype == DType::f64) t.f64()[i] = v.at[i];
        if (t.dtype == DType::f32) t.f32()[i] = static_cast<float>(v.at[i]);
        if (t.dtype == DType::bf16) t.bf16()[i] = to_bf16(static_cast<float>(v.at[i]));
        if (t.dtype == DType::i32) t.i32()[i] = static_cast<int32_t>(v.at[i]);
      }
      tensors.push_back(t);
    }
  ThreadPool pool(threads);
  Call call{tensors.data(), static_cast<int>(c.in.size()), tensors.data() + c.in.size(), static_cast<int>(c.out.size()),
            c.attributes.data(), static_cast<int>(c.attributes.size()), &pool, nullptr};
  if (reference) {
    op->reference(call);
  } else {
    std::vector<Tensor> shapes = tensors;  // a workspace is asked for before there is data
    for (Tensor& t : shapes) t.data = nullptr;
    Call shape = call;
    shape.in = shapes.data();
    shape.out = shapes.data() + c.in.size();
    const int64_t size = op->workspace ? op->workspace(shape) : 0;
    MemoryBlock block(size + 64);
    std::memset(block.data(), 0xff, static_cast<size_t>(size + 64));
    call.workspace = block.data();
    op->cpu(call);
    for (int64_t i = size; i < size + 64; ++i)
      if (static_cast<uint8_t*>(block.data())[i] != 0xff) return expect(false, c.op + " wrote beyond its workspace"), Result();
  }
  Result r;
  for (size_t o = 0; o < c.out.size(); ++o) {
    const Tensor& t = call.out[o];
    const std::vector<uint8_t>& m = memory[c.in.size() + o];
    for (size_t i = m.size() - 64; i < m.size(); ++i)
      if (m[i] != 0xee) expect(false, c.op + " wrote beyond output " + std::to_string(o)), i = m.size();
    std::vector<double> v(t.present() ? static_cast<size_t>(t.size()) : 0);
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = t.dtype == DType::f64 ? t.f64()[i] : t.dtype == DType::f32 ? double{t.f32()[i]} : t.dtype == DType::bf16 ? from_bf16(t.bf16()[i]) : static_cast<double>(t.i32()[i]);
    r.values.push_back(std::move(v));
    r.bytes.push_back(m);
  }
  return r;
}

inline void compare(const Case& c, const char* who, size_t o, const std::vector<double>& want, const std::vector<double>& got,
                    double tolerance, double rounding) {
  double worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double x = want[i], y = got[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double error = std::fabs(x - y) / (tolerance * (std::fabs(x) + 1) + rounding * std::fabs(x));
    if (!(error <= worst)) worst = error, where = i;
    if (std::isnan(error)) break;
  }
  expect(worst <= 1, c.op + " (" + who + ") output " + std::to_string(o) + "[" + std::to_string(where) + "]: " +
                         std::to_string(want.empty() ? 0 : got[where]) + " for " + std::to_string(want.empty() ? 0 : want[where]));
}

// The reference must give `want` to 1e-12 and the kernel to `tolerance` and a bf16 output to its one rounding (a plain bf16
// evaluation rounds at least that once); the same bits with 1, 2 and 3 threads. Only the
// first counts[o] numbers of an output are looked at where counts are given.
inline void check(const Case& c, std::vector<std::vector<double>> want, double tolerance = 1e-5, const std::vector<int64_t>& counts = {}) {
  const Result exact = run(c, true, 2), one = run(c, false, 1), two = run(c, false, 2), three = run(c, false, 3);
  for (size_t o = 0; o < want.size(); ++o) {
    if (c.out[o].absent) continue;
    if (!counts.empty()) want[o].resize(static_cast<size_t>(counts[o]));
    compare(c, "reference", o, want[o], exact.values[o], 1e-12, 0);
    const bool narrow = c.out[o].type == DType::bf16;
    compare(c, isa_name(active_isa()), o, want[o], one.values[o], c.out[o].type == DType::i32 ? 1e-300 : narrow ? 1e-6 + tolerance : tolerance,
            narrow ? 1.001 / 256 : 0);
    const size_t size = want[o].size() * static_cast<size_t>(dtype_size(c.out[o].type));
    expect(std::memcmp(one.bytes[o].data(), two.bytes[o].data(), size) == 0 && std::memcmp(one.bytes[o].data(), three.bytes[o].data(), size) == 0,
           c.op + " output " + std::to_string(o) + " depends on the number of threads");
  }
}

inline void expect_error(const Case& c, const std::string& part) {
  for (const bool reference : {true, false}) {
    std::string message;
    try {
      run(c, reference, 2);
    } catch (const std::exception& error) {
      message = error.what();
    }
    expect(message.find(part) != std::string::npos, c.op + ": error '" + message + "' instead of '" + part + "'");
  }
}

constexpr int kSkipped = 77;  // what ctest takes for "this CPU has not the instruction set that LONGER_ISA names"

inline bool isa_is_there() {
  try {
    active_isa();
    return true;
  } catch (const std::exception& error) {
    std::printf("skipped: %s\n", error.what());
    return false;
  }
}

inline int report(const char* name) {
  std::printf("%s, %s: %d passed, %d failed\n", name, isa_name(active_isa()), passed, failed);
  return failed ? 1 : 0;
}

}  // namespace longer::test
