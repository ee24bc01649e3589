// Operations on the device, alone: `gpu_bench CASE [tiny]` prints one JSON line with the seconds of one run, its FLOPs and the bytes it has to move.
// `gpu_bench list` names the cases. Linked with CUDA's device, or with the emulated one, which shows that the program is right and measures nothing.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "runtime/device_memory.h"
#include "runtime/error.h"

using namespace longer;

#ifdef LONGER_SIMT
constexpr const char* kDevice = "emulated";
#else
constexpr const char* kDevice = "cuda:0";
#endif

namespace {

constexpr DType bf16 = DType::bf16, f32 = DType::f32;

std::shared_ptr<Device> device;
Stream stream;

// A tensor in device memory.
class Array {
 public:
  Array(DType type, std::vector<int64_t> dims) {
    tensor.dtype = type, tensor.rank = static_cast<int>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) tensor.dim[i] = dims[i];
    memory_ = std::make_shared<DeviceMemory>(device, tensor.bytes());
    tensor.data = memory_->data();
  }
  static Array zeros(DType type, std::vector<int64_t> dims) {
    Array a(type, std::move(dims));
    device->fill(a.tensor.data, 0, a.tensor.bytes(), stream);
    return a;
  }
  // Numbers of -1 to 1, a pattern of some thousands again and again.
  static Array random(DType type, std::vector<int64_t> dims) {
    Array a(type, std::move(dims));
    std::mt19937 bits(7);
    std::vector<uint8_t> host(static_cast<size_t>(a.tensor.bytes()));
    for (int64_t i = 0; i < a.tensor.size(); ++i) {
      const float v = static_cast<float>(bits() % 4001) / 2000 - 1;
      uint32_t word;
      std::memcpy(&word, &v, 4);
      const uint16_t high = static_cast<uint16_t>(word >> 16);
      if (type == bf16) std::memcpy(&host[static_cast<size_t>(2 * i)], &high, 2);
      else std::memcpy(&host[static_cast<size_t>(4 * i)], &word, 4);
    }
    a.put(host.data());
    return a;
  }
  static Array whole(const std::vector<int32_t>& values) {
    Array a(DType::i32, {static_cast<int64_t>(values.size())});
    a.put(values.data());
    return a;
  }
  Tensor tensor;

 private:
  void put(const void* host) {
    device->copy_in(tensor.data, host, tensor.bytes(), stream);
    device->synchronize(stream);
  }
  std::shared_ptr<DeviceMemory> memory_;
};

// An operation with its arrays and workspace, ready to be queued again and again.
class Queued {
 public:
  Queued(const char* op, const std::vector<Array>& in, const std::vector<Array>& out, std::vector<double> attributes)
      : kept_(in), attributes_(std::move(attributes)), op_(cuda::find_device_op(op)) {
    if (!op_) throw std::runtime_error(std::string("the device has no operation ") + op);
    for (const Array& a : in) in_.push_back(a.tensor);
    for (const Array& a : out) out_.push_back(a.tensor), kept_.push_back(a);
  }
  void operator()() {
    Call call;
    call.in = in_.data(), call.ins = static_cast<int>(in_.size());
    call.out = out_.data(), call.outs = static_cast<int>(out_.size());
    call.attr = attributes_.data(), call.attrs = static_cast<int>(attributes_.size());
    if (!workspace_ && op_->workspace) workspace_ = std::make_shared<DeviceMemory>(device, op_->workspace(call));
    call.workspace = workspace_ ? workspace_->data() : nullptr;
    op_->run(call, {stream, nullptr, 1});
  }

 private:
  std::vector<Array> kept_;
  std::vector<Tensor> in_, out_;
  std::vector<double> attributes_;
  const cuda::DeviceOp* op_;
  std::shared_ptr<DeviceMemory> workspace_;
};

Array absent() {
  Array a(f32, {0});
  a.tensor = Tensor();
  return a;
}

struct Measured {
  double seconds, flops, bytes;
};

// The median of five times, each of as many runs as take about 50 ms.
Measured measure(double flops, double bytes, bool tiny, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_of = [&](int runs) {
    const auto from = Clock::now();
    for (int i = 0; i < runs; ++i) run();
    device->synchronize(stream);
    return std::chrono::duration<double>(Clock::now() - from).count() / runs;
  };
  seconds_of(1);  // loads the kernels
  if (tiny) return {seconds_of(1), flops, bytes};
  const int runs = std::max(1, static_cast<int>(0.05 / std::max(1e-6, seconds_of(2))));
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) times.push_back(seconds_of(runs));
  std::sort(times.begin(), times.end());
  return {times[2], flops, bytes};
}

Measured copy(bool tiny) {
  const int64_t bytes = tiny ? 4096 : int64_t{1} << 30;
  DeviceMemory from(device, bytes), to(device, bytes);
  return measure(0, 2.0 * static_cast<double>(bytes), tiny, [&] { device->copy(to.data(), from.data(), bytes, stream); });
}

// `rows` queries, the last of `keys`, causal where they are as many; FLOPs of the scores that are seen, 2 products forward and 5 backward.
Measured attention(int64_t requests, int64_t rows, int64_t keys, int64_t heads, int64_t head, bool backward, bool tiny) {
  const int64_t width = heads * head;
  std::vector<int32_t> q_offsets, k_offsets, limits;
  for (int64_t r = 0; r <= requests; ++r) q_offsets.push_back(static_cast<int32_t>(r * rows)), k_offsets.push_back(static_cast<int32_t>(r * keys));
  double seen = 0;
  for (int64_t r = 0; r < requests; ++r)
    for (int64_t i = 0; i < rows; ++i) limits.push_back(static_cast<int32_t>(keys - rows + i + 1)), seen += limits.back();
  const Array q = Array::random(bf16, {requests * rows, width}), k = Array::random(bf16, {requests * keys, width}), v = Array::random(bf16, {requests * keys, width});
  const Array o(bf16, {requests * rows, width}), lse(f32, {requests * rows, heads});
  const Array qo = Array::whole(q_offsets), ko = Array::whole(k_offsets), limit = Array::whole(limits);
  const std::vector<double> attributes{static_cast<double>(heads), 1 / std::sqrt(static_cast<double>(head))};
  const double matrix = 2.0 * static_cast<double>(width);
  const double row_bytes = matrix * static_cast<double>(requests * rows), key_bytes = matrix * static_cast<double>(requests * keys);
  Queued forward("attention", {q, k, v, qo, ko, limit}, {o, lse}, attributes);
  if (!backward) return measure(4 * seen * static_cast<double>(width), 2 * row_bytes + 2 * key_bytes, tiny, [&] { forward(); });
  forward();
  const Array d_o = Array::random(bf16, {requests * rows, width}), dq(bf16, {requests * rows, width}), dk(bf16, {requests * keys, width}), dv(bf16, {requests * keys, width});
  Queued back("attention_dx", {q, k, v, o, lse, d_o, qo, ko, limit}, {dq, dk, dv}, attributes);
  return measure(10 * seen * static_cast<double>(width), 4 * row_bytes + 4 * key_bytes, tiny, [&] { back(); });
}

// Bias and GELU in the product's own kernel.
Measured linear(int64_t rows, int64_t inner, int64_t columns, bool tiny) {
  Queued run("linear", {Array::random(bf16, {rows, inner}), Array::random(bf16, {inner, columns}), Array::random(f32, {columns}), absent()},
             {Array(bf16, {rows, columns}), absent()}, {1});
  return measure(2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns),
                 2.0 * static_cast<double>(rows * (inner + columns) + inner * columns), tiny, [&] { run(); });
}

// The same by the kernel that every GPU since sm_80 has, whatever this one is.
Measured linear_by_mma(int64_t rows, int64_t inner, int64_t columns, bool tiny) {
  setenv("LONGER_GPU_ARCHITECTURE", "80", 1);  // read once, when the first product is queued
  return linear(rows, inner, columns, tiny);
}

// One block of the InnerTransformer, one operation: `tokens` of width 32 in groups of 8, histories of 2,000. FLOPs of the backward pass without what it computes again.
Measured inner_block(int64_t tokens, bool backward, bool tiny) {
  constexpr int64_t d = 32, group = 8, heads = 4, history = 2000;
  std::vector<int32_t> offsets{0};
  while (offsets.back() < tokens) offsets.push_back(static_cast<int32_t>(std::min(tokens, offsets.back() + history)));
  const Array x = Array::random(bf16, {tokens, d}), at = Array::whole(offsets);
  std::vector<Array> parameters, gradients;
  const auto add = [&](std::vector<int64_t> shape) { parameters.push_back(Array::random(f32, shape)), gradients.push_back(Array(f32, shape)); };
  const auto vectors = [&](int count, int64_t n) { for (int i = 0; i < count; ++i) add({n}); };
  vectors(2, d);                                          // norm 1
  for (int i = 0; i < 4; ++i) add({d, d}), vectors(1, d);  // q, k, v, out
  vectors(2, d);                                          // norm 2
  add({d, 4 * d}), vectors(1, 4 * d);
  add({4 * d, d}), vectors(1, d);
  const std::vector<double> attributes{heads, 1 / std::sqrt(8.0), group, 0, 1e-5, 0};
  const auto with = [](std::vector<Array> first, const std::vector<Array>& rest) { return first.insert(first.end(), rest.begin(), rest.end()), first; };
  const double t = static_cast<double>(tokens), flops = t * (2.0 * d * d * 12 + 4.0 * d * group), matrix = 2 * t * d;
  if (!backward) {
    Queued run("inner_transformer", with({x, at}, parameters), {Array(bf16, {tokens, d})}, attributes);
    return measure(flops, 2 * matrix, tiny, [&] { run(); });
  }
  Queued run("inner_transformer_dx", with({x, Array::random(bf16, {tokens, d}), at}, parameters), with({Array(bf16, {tokens, d})}, gradients), attributes);
  return measure(2 * flops, 3 * matrix, tiny, [&] { run(); });
}

// The same forward, operation by operation, as it runs in f32 and at other widths.
Measured inner_parts(int64_t tokens, bool tiny) {
  constexpr int64_t d = 32, group = 8, heads = 4;
  const auto w = [](int64_t in, int64_t out) { return Array::random(bf16, {in, out}); };
  const auto b = [](int64_t n) { return Array::zeros(f32, {n}); };
  const auto rows = [&](int64_t width) { return Array(bf16, {tokens, width}); };
  const Array x = Array::random(bf16, {tokens, d}), gamma = Array::random(f32, {d}), n = rows(d), q = rows(d), k = rows(d), v = rows(d), a = rows(d), y = rows(d), h = rows(4 * d), out = rows(d);
  const Array offsets = Array::whole({0, static_cast<int32_t>(tokens)});
  std::vector<Queued> block;
  const auto norm = [&](const Array& from, const Array& to) { block.emplace_back("norm", std::vector<Array>{from, gamma, gamma}, std::vector<Array>{to, absent(), absent()}, std::vector<double>{0, 1e-5}); };
  const auto product = [&](const Array& from, const Array& weight, const Array& to, const Array& residual, double activation) {
    block.emplace_back("linear", std::vector<Array>{from, weight, b(weight.tensor.dim[1]), residual}, std::vector<Array>{to, absent()}, std::vector<double>{activation});
  };
  norm(x, n);
  for (const Array* to : {&q, &k, &v}) product(n, w(d, d), *to, absent(), 0);
  block.emplace_back("group_attention", std::vector<Array>{q, k, v, offsets}, std::vector<Array>{a}, std::vector<double>{heads, 1 / std::sqrt(8.0), group});
  product(a, w(d, d), y, x, 0);
  norm(y, n);
  product(n, w(d, 4 * d), h, absent(), 1);
  product(h, w(4 * d, d), out, y, 0);
  const double t = static_cast<double>(tokens);
  return measure(t * (2.0 * d * d * 12 + 4.0 * d * group), 2 * 2 * t * d, tiny, [&] { for (Queued& op : block) op(); });
}

// The gradient of a table by rows and the row-wise Adagrad of it. Bytes: the gradient read once, each unique row and its sum read and written.
Measured embedding_backward(int64_t uses, int64_t rows, bool tiny) {
  constexpr int64_t width = 32;
  std::mt19937 bits(3);
  std::vector<int32_t> ids(static_cast<size_t>(uses));
  std::vector<char> met(static_cast<size_t>(rows));
  for (int32_t& id : ids) id = static_cast<int32_t>(bits() % static_cast<uint32_t>(rows)), met[static_cast<size_t>(id)] = 1;
  const double unique = static_cast<double>(std::count(met.begin(), met.end(), 1));
  const Array dy = Array::random(bf16, {uses, width}), at(DType::i32, {uses}), gradient(f32, {uses, width}), count(DType::i32, {1});
  const Array table = Array::random(f32, {rows, width}), sums = Array::zeros(f32, {rows}), hyper = Array::random(f32, {8}), scale = Array::random(f32, {1});
  Queued sorted("sparse_grad", {Array::whole(ids), absent(), dy}, {at, gradient, count}, {1, 0, 0});
  Queued step("rowwise_adagrad", {at, gradient, count, hyper, scale}, {table, sums}, {1e-8});
  return measure(0, 2.0 * static_cast<double>(uses) * width + unique * (2 * 4.0 * width + 2 * 4), tiny, [&] { sorted(), step(); });
}

const std::map<std::string, std::function<Measured(bool)>>& cases() {
  static const std::map<std::string, std::function<Measured(bool)>> all = {
      {"copy", copy},
      {"attention-p", [](bool t) { return t ? attention(2, 12, 25, 2, 16, false, t) : attention(1024, 108, 250, 4, 64, false, t); }},
      {"attention-p-backward", [](bool t) { return t ? attention(2, 12, 25, 2, 16, true, t) : attention(1024, 108, 250, 4, 64, true, t); }},
      {"attention-4096-64", [](bool t) { return t ? attention(1, 70, 70, 1, 64, false, t) : attention(4, 4096, 4096, 16, 64, false, t); }},
      {"attention-4096-128", [](bool t) { return t ? attention(1, 70, 70, 1, 128, false, t) : attention(4, 4096, 4096, 16, 128, false, t); }},
      {"linear-256", [](bool t) { return t ? linear(40, 64, 64, t) : linear(262144, 256, 256, t); }},
      {"linear-512", [](bool t) { return t ? linear(40, 64, 128, t) : linear(262144, 512, 512, t); }},
      {"linear-1024", [](bool t) { return t ? linear(40, 64, 256, t) : linear(262144, 1024, 1024, t); }},
      {"linear-256-mma", [](bool t) { return t ? linear_by_mma(40, 64, 64, t) : linear_by_mma(262144, 256, 256, t); }},
      {"linear-512-mma", [](bool t) { return t ? linear_by_mma(40, 64, 128, t) : linear_by_mma(262144, 512, 512, t); }},
      {"linear-1024-mma", [](bool t) { return t ? linear_by_mma(40, 64, 256, t) : linear_by_mma(262144, 1024, 1024, t); }},
      {"inner-forward", [](bool t) { return inner_block(t ? 24 : 2048000, false, t); }},
      {"inner-backward", [](bool t) { return inner_block(t ? 24 : 2048000, true, t); }},
      {"inner-parts", [](bool t) { return inner_parts(t ? 24 : 2048000, t); }},
      {"embedding-backward", [](bool t) { return t ? embedding_backward(50, 20, t) : embedding_backward(2048000, 1000000, t); }},
  };
  return all;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string name = count > 1 ? arguments[1] : "list";
  const auto found = cases().find(name);
  if (found == cases().end()) {
    for (const auto& [known, run] : cases()) std::printf("%s\n", known.c_str());
    return name == "list" ? 0 : 1;
  }
  try {
    device = shared_device(kDevice);
    stream = device->create_stream();
    const Measured m = found->second(count > 2 && std::string(arguments[2]) == "tiny");
    std::printf("{\"name\": \"%s\", \"seconds\": %.9f, \"flops\": %.0f, \"bytes\": %.0f}\n", name.c_str(), m.seconds, m.flops, m.bytes);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 1;
}
