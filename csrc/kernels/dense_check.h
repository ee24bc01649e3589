// Shape checks that the dense operations share. Every op has its own dtypes for the tensors that follow the
// activations (f32, bf16 or f16 each) and for those that are always f32; f64 takes the place of both in reference kernels.
#pragma once
#include <string>

#include "kernels/op.h"

namespace longer {

class DenseCheck {
 public:
  DenseCheck(const char* op, const Call& call) : op_(op), call_(call) {}

  void require(bool holds, const char* what) const {
    if (!holds) throw std::runtime_error(std::string(op_) + ": " + what + " " + shapes());
  }
  void counts(int least_ins, int most_ins, int least_outs, int most_outs, int attrs) const {
    require(call_.ins >= least_ins && call_.ins <= most_ins, "wrong number of inputs");
    require(call_.outs >= least_outs && call_.outs <= most_outs, "wrong number of outputs");
    require(call_.attrs == attrs, "wrong number of attributes");
    for (int i = 0; i < least_outs; ++i) require(call_.out[i].present(), "an output is absent");
  }
  static bool floating(const Tensor& t) { return t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 || t.dtype == DType::f64; }

  // rows x cols of f32, bf16, f16 or f64
  void matrix(const Tensor& t, int64_t rows, int64_t cols, const char* what) const {
    require(t.present() && t.rows() == rows && t.cols() == cols && floating(t), what);
  }
  void matrix_or_absent(const Tensor& t, int64_t rows, int64_t cols, const char* what) const {
    if (t.present()) matrix(t, rows, cols, what);
  }
  // size elements of f32 or f64, whatever the rank
  void wide(const Tensor& t, int64_t size, const char* what) const {
    require(t.present() && t.size() == size && (t.dtype == DType::f32 || t.dtype == DType::f64), what);
  }
  void wide_or_absent(const Tensor& t, int64_t size, const char* what) const {
    if (t.present()) wide(t, size, what);
  }
  // size whole numbers, whatever the rank
  void indices(const Tensor& t, int64_t size, const char* what) const {
    require(t.present() && t.size() == size && t.dtype == DType::i32, what);
  }
  // [requests + 1] whole numbers; returns the requests
  int64_t offsets(const Tensor& t, const char* what) const {
    require(t.rank == 1 && t.dim[0] > 0 && t.dtype == DType::i32, what);
    return t.dim[0] - 1;
  }
  void same_shape(const Tensor& a, const Tensor& b, const char* what) const {
    bool same = a.present() && a.rank == b.rank && floating(b);
    for (int i = 0; same && i < a.rank; ++i) same = a.dim[i] == b.dim[i];
    require(same, what);
  }

 private:
  std::string shapes() const {
    std::string text = "(inputs";
    const auto append = [&text](const Tensor& t) {
      text += " [";
      for (int i = 0; i < t.rank; ++i) text += (i ? "," : "") + std::to_string(t.dim[i]);
      text += t.present() ? "]" : "absent]";
    };
    for (int i = 0; i < call_.ins; ++i) append(call_.in[i]);
    text += "; outputs";
    for (int i = 0; i < call_.outs; ++i) append(call_.out[i]);
    return text + ")";
  }

  const char* op_;
  const Call& call_;
};

}  // namespace longer
