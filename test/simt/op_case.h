// One call of an operation: on the emulated device, and by the reference in double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "simt/check.h"
#include "simt/emulated_device.h"
#include "simt/ptx.h"

namespace simt {

struct Value {
  longer::Tensor shape;
  std::vector<double> exact;   // by the reference
  std::vector<double> result;  // of an output, from the device
};

inline double rounded(double v, longer::DType type) {
  const float f = static_cast<float>(v);
  return type == longer::DType::bf16 ? __uint_as_float(f32_to_bf16(f) << 16) : f;
}

class OpCase {
 public:
  OpCase(std::string name, void (*reference)(const longer::Call&), uint64_t seed) : name_(std::move(name)), reference_(reference), random_(seed) {}

  OpCase& in(longer::DType type, std::vector<int64_t> dims, double low, double high) {
    Value v = empty(type, dims);
    std::uniform_real_distribution<double> uniform(low, high);
    for (double& e : v.exact) e = rounded(uniform(random_), type);
    ins_.push_back(std::move(v));
    return *this;
  }
  OpCase& in(longer::DType type, std::vector<int64_t> dims, const std::vector<double>& values) {
    Value v = empty(type, dims);
    for (size_t i = 0; i < v.exact.size(); ++i) v.exact[i] = rounded(values[i], type);
    ins_.push_back(std::move(v));
    return *this;
  }
  OpCase& out(longer::DType type, std::vector<int64_t> dims) { outs_.push_back(empty(type, dims)); return *this; }
  OpCase& in_absent() { ins_.emplace_back(); return *this; }
  OpCase& out_absent() { outs_.emplace_back(); return *this; }
  OpCase& attributes(std::vector<double> values) { attributes_ = std::move(values); return *this; }
  const std::vector<double>& exact_out(int i) const { return outs_[i].exact; }

  std::string describe() const {
    std::string text = name_;
    for (const Value& v : ins_) {
      text += " [";
      for (int i = 0; i < v.shape.rank; ++i) text += (i ? "," : "") + std::to_string(v.shape.dim[i]);
      text += v.shape.dtype == longer::DType::bf16 ? "]bf16" : "]";
    }
    return text;
  }

  void run_reference() {
    std::vector<longer::Tensor> in, out;
    for (Value& v : ins_) in.push_back(double_view(v));
    for (Value& v : outs_) out.push_back(double_view(v));
    longer::Call call = call_of(in, out);
    reference_(call);
  }

  // On the emulated device, from memory of exactly the right size; outputs and workspace start as NaN.
  void run_device(longer::Device& device) {
    const longer::Stream stream = device.create_stream();
    std::vector<void*> memory;
    std::vector<std::vector<unsigned char>> host;
    const auto place = [&](std::vector<Value>& values, bool fill) {
      std::vector<longer::Tensor> tensors;
      for (Value& v : values) {
        longer::Tensor t = v.shape;
        t.data = t.present() ? device.allocate(t.bytes()) : nullptr;
        memory.push_back(t.data);
        if (fill && t.data) {
          host.push_back(encode(v));
          device.copy_in(t.data, host.back().data(), t.bytes(), stream);
        }
        tensors.push_back(t);
      }
      return tensors;
    };
    host.reserve(ins_.size());
    std::vector<longer::Tensor> in = place(ins_, true), out = place(outs_, false);
    longer::Call call = call_of(in, out);
    const longer::cuda::DeviceOp* op = longer::cuda::find_device_op(name_);
    call.workspace = op->workspace ? device.allocate(op->workspace(call)) : nullptr;
    op->run(call, stream);
    std::vector<std::vector<unsigned char>> back(outs_.size());
    for (size_t i = 0; i < outs_.size(); ++i) {
      back[i].resize(static_cast<size_t>(out[i].present() ? out[i].bytes() : 0));
      device.copy_out(back[i].data(), out[i].data, static_cast<int64_t>(back[i].size()), stream);
    }
    device.synchronize(stream);
    for (size_t i = 0; i < outs_.size(); ++i) outs_[i].result = decode(back[i], outs_[i].shape.dtype);
    device.destroy(stream);
    for (void* m : memory) device.release(m);
    device.release(call.workspace);
  }

  // The largest error of an output, relative to the size of its largest value; NaN where one is NaN.
  double error(int output) const {
    const Value& v = outs_[output];
    double most = 0.05, worst = 0;  // what cancels to nothing is measured against its terms
    for (const double e : v.exact) most = std::max(most, std::fabs(e));
    for (size_t i = 0; i < v.exact.size(); ++i) {
      const double off = std::fabs(v.result[i] - v.exact[i]);
      if (!(off <= worst)) worst = off;
      if (std::isnan(off)) return off;
    }
    return worst / most;
  }

  // Outputs are as near to the reference as `factor` roundings of their type, plus `accumulated` for sums in float.
  void check(longer::Device& device, double factor, double accumulated) {
    run_reference();
    run_device(device);
    for (size_t i = 0; i < outs_.size(); ++i)
      if (outs_[i].shape.present()) {
        const double allowed = factor * (outs_[i].shape.dtype == longer::DType::bf16 ? 1.0 / 512 : 0) + accumulated;
        const double found = error(static_cast<int>(i));
        expect(found <= allowed, describe() + " output " + std::to_string(i) + ": error " + std::to_string(found) + ", allowed " + std::to_string(allowed));
      }
  }

 private:
  static Value empty(longer::DType type, const std::vector<int64_t>& dims) {
    Value v;
    v.shape.dtype = type;
    v.shape.rank = static_cast<int>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) v.shape.dim[i] = dims[i];
    v.exact.assign(static_cast<size_t>(v.shape.size()), 0);
    return v;
  }
  static longer::Tensor double_view(Value& v) {
    longer::Tensor t = v.shape;
    t.dtype = longer::DType::f64;
    t.data = v.exact.data();
    return t;
  }
  longer::Call call_of(const std::vector<longer::Tensor>& in, const std::vector<longer::Tensor>& out) const {
    longer::Call call;
    call.in = in.data(), call.ins = static_cast<int>(in.size());
    call.out = out.data(), call.outs = static_cast<int>(out.size());
    call.attr = attributes_.data(), call.attrs = static_cast<int>(attributes_.size());
    return call;
  }
  static std::vector<unsigned char> encode(const Value& v) {
    std::vector<unsigned char> bytes(static_cast<size_t>(v.shape.bytes()));
    for (size_t i = 0; i < v.exact.size(); ++i) {
      const float f = static_cast<float>(v.exact[i]);
      const uint16_t half = static_cast<uint16_t>(f32_to_bf16(f));
      if (v.shape.dtype == longer::DType::bf16) std::memcpy(bytes.data() + 2 * i, &half, 2);
      else std::memcpy(bytes.data() + 4 * i, &f, 4);
    }
    return bytes;
  }
  static std::vector<double> decode(const std::vector<unsigned char>& bytes, longer::DType type) {
    const size_t each = static_cast<size_t>(longer::dtype_size(type));
    std::vector<double> values(bytes.size() / each);
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + each * i, each);
      values[i] = __uint_as_float(type == longer::DType::bf16 ? bits << 16 : bits);
    }
    return values;
  }

  std::string name_;
  void (*reference_)(const longer::Call&);
  std::mt19937_64 random_;
  std::vector<Value> ins_, outs_;
  std::vector<double> attributes_;
};

}  // namespace simt
