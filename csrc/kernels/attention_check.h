// Shape checks that the attention operations share.
#pragma once
#include <string>

#include "kernels/op.h"

namespace longer {

inline std::string describe_shapes(const char* op, const Call& call) {
  std::string text = std::string(op) + ": inputs";
  const auto append = [&text](const Tensor& t) {
    text += " [";
    for (int i = 0; i < t.rank; ++i) text += (i ? "," : "") + std::to_string(t.dim[i]);
    text += t.present() ? "]" : "absent]";
  };
  for (int i = 0; i < call.ins; ++i) append(call.in[i]);
  text += ", outputs";
  for (int i = 0; i < call.outs; ++i) append(call.out[i]);
  return text;
}

class ShapeCheck {
 public:
  ShapeCheck(const char* op, const Call& call) : op_(op), call_(call) {}

  void require(bool holds, const char* what) const {
    if (!holds) throw std::runtime_error(describe_shapes(op_, call_) + ": " + what);
  }
  void counts(int ins, int outs, int attrs) const {
    require(call_.ins == ins && call_.outs == outs && call_.attrs == attrs, "wrong number of inputs, outputs or attributes");
    for (int i = 0; i < ins; ++i) require(call_.in[i].present(), "an input is absent");
  }
  void matrix(const Tensor& t, int64_t rows, int64_t cols, DType dtype, const char* what) const {
    require(t.rank == 2 && t.dim[0] == rows && t.dim[1] == cols && t.dtype == dtype, what);
  }
  void indices(const Tensor& t, const char* what) const { require(t.rank == 1 && t.dtype == DType::i32, what); }

 private:
  const char* op_;
  const Call& call_;
};

}  // namespace longer
