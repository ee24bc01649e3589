// One call of an operation: on a device, and by the reference in double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "simt/check.h"
#include "simt/machine.h"
#include "simt/ptx.h"
#include "simt/random.h"

namespace simt {

struct Value {
  longer::Tensor shape;
  std::vector<double> exact;   // by the reference; of an input, and of an output in place before the call, what it holds
  std::vector<double> before;  // of an output in place
  std::vector<double> result;  // of an output, from the device
  std::vector<unsigned char> bytes;
};

inline double rounded(double v, longer::DType type) {
  if (type == longer::DType::f64 || type == longer::DType::i32) return v;
  const float f = static_cast<float>(v);
  return type == longer::DType::bf16 ? __uint_as_float(f32_to_bf16(f) << 16) : type == longer::DType::f16 ? f16_to_f32(f32_to_f16(f)) : f;
}
// The largest error, relative to the number, of rounding to a type.
inline double rounding_of(longer::DType type) { return type == longer::DType::bf16 ? 1.0 / 512 : type == longer::DType::f16 ? 1.0 / 4096 : 0; }

class OpCase {
 public:
  OpCase(std::string name, void (*reference)(const longer::Call&), uint64_t seed) : name_(std::move(name)), reference_(reference), random_(seed) {}

  OpCase& in(longer::DType type, std::vector<int64_t> dims, double low, double high) {
    Value v = empty(type, dims);
    for (double& e : v.exact) e = rounded(random_.number(low, high), type);
    ins_.push_back(std::move(v));
    return *this;
  }
  OpCase& in(longer::DType type, std::vector<int64_t> dims, const std::vector<double>& values) {
    Value v = empty(type, dims);
    for (size_t i = 0; i < v.exact.size(); ++i) v.exact[i] = rounded(values[i], type);
    ins_.push_back(std::move(v));
    return *this;
  }
  OpCase& in(const std::vector<int32_t>& values) { return in(longer::DType::i32, {static_cast<int64_t>(values.size())}, std::vector<double>(values.begin(), values.end())); }
  // An output that the operation works on in place.
  OpCase& in_place(longer::DType type, std::vector<int64_t> dims, double low, double high) {
    in(type, std::move(dims), low, high);
    outs_.push_back(std::move(ins_.back()));
    ins_.pop_back();
    if (type == longer::DType::i32)
      for (double& e : outs_.back().exact) e = std::floor(e);
    outs_.back().before = outs_.back().exact;
    return *this;
  }
  OpCase& out(longer::DType type, std::vector<int64_t> dims) { outs_.push_back(empty(type, dims)); return *this; }
  int64_t size_of_input(int i) const { return static_cast<int64_t>(ins_[i].exact.size()); }
  OpCase& in_absent() { ins_.emplace_back(); return *this; }
  OpCase& out_absent() { outs_.emplace_back(); return *this; }
  OpCase& attributes(std::vector<double> values) { attributes_ = std::move(values); return *this; }
  const std::vector<double>& given_attributes() const { return attributes_; }
  // By another kernel than the device's operation of this name.
  OpCase& on(const longer::cuda::DeviceOp& op) { op_ = &op; return *this; }
  // Products of f32 by one product of TF32 numbers.
  OpCase& tf32() { tf32_ = true; return *this; }
  OpCase& first_row(int64_t row) { first_row_ = row; return *this; }
  // Only that many rows of the outputs that follow hold anything: the i32 in `output` says.
  OpCase& counted_by(int output) { counted_by_ = output; return *this; }
  // Its factors are rounded to this type, whatever the type of an output is.
  OpCase& rounds_to(longer::DType type) { inside_ = type; return *this; }
  // An output whose sums cancel: its error is one relative to the largest value of another.
  OpCase& measured_by(int output, int other) { measured_by_[output] = other; return *this; }
  const std::vector<double>& result(int i) const { return outs_[i].result; }
  int outputs() const { return static_cast<int>(outs_.size()); }
  const std::vector<double>& exact_out(int i) const { return outs_[i].exact; }

  std::string describe() const {
    std::string text = name_;
    for (const Value& v : ins_) {
      text += " [";
      for (int i = 0; i < v.shape.rank; ++i) text += (i ? "," : "") + std::to_string(v.shape.dim[i]);
      text += v.shape.dtype == longer::DType::bf16 ? "]bf16" : v.shape.dtype == longer::DType::f16 ? "]f16" : "]";
    }
    return text;
  }

  void run_reference() {
    std::vector<longer::Tensor> in, out;
    whole_.clear();
    for (Value& v : ins_) in.push_back(double_view(v));
    for (Value& v : outs_) out.push_back(double_view(v));
    longer::Call call = call_of(in, out);
    reference_(call);
    for (size_t i = 0; i < outs_.size(); ++i)
      if (outs_[i].shape.present() && outs_[i].shape.dtype == longer::DType::i32)
        outs_[i].exact.assign(out[i].i32(), out[i].i32() + out[i].size());
  }

  // From memory of exactly the right size; outputs and workspace start as NaN.
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
        if (t.data) device.fill(t.data, 0xff, t.bytes(), stream);
        if ((fill || !v.before.empty()) && t.data) {
          host.push_back(encode(v, v.before.empty() ? v.exact : v.before));
          device.copy_in(t.data, host.back().data(), t.bytes(), stream);
        }
        tensors.push_back(t);
      }
      return tensors;
    };
    host.reserve(ins_.size() + outs_.size());
    std::vector<longer::Tensor> in = place(ins_, true), out = place(outs_, false);
    longer::Call call = call_of(in, out);
    const longer::cuda::DeviceOp* op = op_ ? op_ : longer::cuda::find_device_op(name_);
    if (!op) throw std::runtime_error("the device has no operation " + name_);
    std::vector<longer::Tensor> in_shapes = in, out_shapes = out;  // a workspace is asked for before there is data
    for (auto* list : {&in_shapes, &out_shapes})
      for (longer::Tensor& t : *list) t.data = nullptr;
    const int64_t scratch = op->workspace ? op->workspace(call_of(in_shapes, out_shapes)) : 0;
    call.workspace = device.allocate(scratch);
    if (scratch) device.fill(call.workspace, 0xff, scratch, stream);
    auto* fault = static_cast<int32_t*>(device.allocate(sizeof(int32_t)));
    device.fill(fault, 0, sizeof(int32_t), stream);
    op->run(call, {stream, fault, 7, tf32_});
    for (size_t i = 0; i < outs_.size(); ++i) {
      std::vector<unsigned char>& back = outs_[i].bytes;
      back.resize(static_cast<size_t>(out[i].present() ? out[i].bytes() : 0));
      device.copy_out(back.data(), out[i].data, static_cast<int64_t>(back.size()), stream);
    }
    device.copy_out(&fault_, fault, sizeof fault_, stream);
    device.synchronize(stream);
    for (Value& v : outs_) v.result = decode(v.bytes, v.shape.dtype);
    device.destroy(stream);
    for (void* m : memory) device.release(m);
    device.release(call.workspace);
    device.release(fault);
  }
  int32_t fault() const { return fault_; }  // of the last run

  // The largest error of an output, relative to the size of its largest value; NaN where one is NaN. Whole numbers are
  // right or wrong.
  double error(int output) const {
    const Value& v = outs_[output];
    const size_t count = counted(output);
    double most = 0.05, worst = 0;  // what cancels to nothing is measured against its terms
    const auto other = measured_by_.find(output);
    for (const double e : other == measured_by_.end() ? std::vector<double>(v.exact.begin(), v.exact.begin() + static_cast<std::ptrdiff_t>(count)) : outs_[other->second].exact)
      if (std::isfinite(e)) most = std::max(most, std::fabs(e));
    for (size_t i = 0; i < count; ++i) {
      if (v.result[i] == v.exact[i] || (std::isnan(v.result[i]) && std::isnan(v.exact[i]))) continue;
      if (v.shape.dtype == longer::DType::i32) return 1;
      const double off = std::fabs(v.result[i] - v.exact[i]);
      if (!(off <= worst)) worst = off;
      if (std::isnan(off)) return off;
    }
    return worst / most;
  }

  // Outputs are as near to the reference as `factor` roundings of their type, plus `accumulated` for sums in float. Under
  // another schedule they are the same bits.
  void check(longer::Device& device, double factor, double accumulated) {
    run_reference();
    run_device(device);
    for (size_t i = 0; i < outs_.size(); ++i)
      if (outs_[i].shape.present()) {
        const double allowed = factor * std::max(rounding_of(outs_[i].shape.dtype), rounding_of(inside_)) + accumulated;
        const double found = error(static_cast<int>(i));
        expect(found <= allowed, describe() + " output " + std::to_string(i) + ": error " + std::to_string(found) + ", allowed " + std::to_string(allowed));
      }
    expect(fault_ == 0, describe() + " reports a fault");
  }
  void check_same_bits(longer::Device& device, Schedule other) {
    std::vector<std::vector<unsigned char>> first;
    for (const Value& v : outs_) first.push_back(v.bytes);
    const Schedule now = options().schedule;
    options().schedule = other;
    run_device(device);
    options().schedule = now;
    for (size_t i = 0; i < outs_.size(); ++i)
      expect(std::equal(first[i].begin(), first[i].begin() + static_cast<std::ptrdiff_t>(counted(static_cast<int>(i)) * static_cast<size_t>(longer::dtype_size(outs_[i].shape.dtype))), outs_[i].bytes.begin()),
             describe() + " output " + std::to_string(i) + " depends on the schedule");
  }

 private:
  size_t counted(int output) const {
    const Value& v = outs_[output];
    if (!v.shape.present()) return 0;
    if (counted_by_ < 0 || output == counted_by_) return v.exact.size();
    return static_cast<size_t>(outs_[counted_by_].exact[0]) * static_cast<size_t>(v.shape.cols());
  }
  static Value empty(longer::DType type, const std::vector<int64_t>& dims) {
    Value v;
    v.shape.dtype = type;
    v.shape.rank = static_cast<int>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) v.shape.dim[i] = dims[i];
    v.exact.assign(static_cast<size_t>(v.shape.size()), 0);
    return v;
  }
  longer::Tensor double_view(Value& v) {
    longer::Tensor t = v.shape;
    if (v.shape.dtype == longer::DType::i32) {
      whole_.emplace_back(v.exact.begin(), v.exact.end());
      t.data = whole_.back().data();
      return t;
    }
    t.dtype = longer::DType::f64;
    t.data = v.exact.data();
    return t;
  }
  longer::Call call_of(const std::vector<longer::Tensor>& in, const std::vector<longer::Tensor>& out) const {
    longer::Call call;
    call.in = in.data(), call.ins = static_cast<int>(in.size());
    call.out = out.data(), call.outs = static_cast<int>(out.size());
    call.first_row = first_row_;
    call.attr = attributes_.data(), call.attrs = static_cast<int>(attributes_.size());
    return call;
  }
  static std::vector<unsigned char> encode(const Value& v, const std::vector<double>& values) {
    std::vector<unsigned char> bytes(static_cast<size_t>(v.shape.bytes()));
    const auto put = [&](size_t i, auto x) { std::memcpy(bytes.data() + sizeof x * i, &x, sizeof x); };
    for (size_t i = 0; i < values.size(); ++i) switch (v.shape.dtype) {
        case longer::DType::f32: put(i, static_cast<float>(values[i])); break;
        case longer::DType::bf16: put(i, static_cast<uint16_t>(f32_to_bf16(static_cast<float>(values[i])))); break;
        case longer::DType::f16: put(i, static_cast<uint16_t>(f32_to_f16(static_cast<float>(values[i])))); break;
        case longer::DType::f64: put(i, values[i]); break;
        case longer::DType::i32: put(i, static_cast<int32_t>(values[i])); break;
      }
    return bytes;
  }
  static std::vector<double> decode(const std::vector<unsigned char>& bytes, longer::DType type) {
    const size_t each = static_cast<size_t>(longer::dtype_size(type));
    std::vector<double> values(bytes.size() / each);
    for (size_t i = 0; i < values.size(); ++i) {
      uint64_t bits = 0;
      std::memcpy(&bits, bytes.data() + each * i, each);
      const uint32_t low = static_cast<uint32_t>(bits);
      if (type == longer::DType::f64) std::memcpy(&values[i], &bits, 8);
      else if (type == longer::DType::i32) values[i] = static_cast<int32_t>(low);
      else if (type == longer::DType::f16) values[i] = f16_to_f32(low);
      else values[i] = __uint_as_float(type == longer::DType::bf16 ? low << 16 : low);
    }
    return values;
  }

  std::string name_;
  void (*reference_)(const longer::Call&);
  Random random_;
  std::vector<Value> ins_, outs_;
  std::vector<double> attributes_;
  std::deque<std::vector<int32_t>> whole_;  // what the reference sees of whole numbers
  const longer::cuda::DeviceOp* op_ = nullptr;
  int64_t first_row_ = 0;
  int counted_by_ = -1;
  std::map<int, int> measured_by_;
  longer::DType inside_ = longer::DType::f32;
  bool tf32_ = false;
  int32_t fault_ = 0;
};

}  // namespace simt
