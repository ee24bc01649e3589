// The composition of the references of its parts.
#include "kernels/inner_transformer.h"

#include <deque>

#include "kernels/activation_kind.h"
#include "kernels/attention_kernels.h"
#include "kernels/dense_kernels.h"

namespace longer::reference {

namespace {

// Values of one call, and calls of operations on them.
class Parts {
 public:
  explicit Parts(const InnerTransformerArgs& a) : a_(a) {}

  Tensor matrix(int64_t columns) { return make({a_.rows, columns}); }
  Tensor vector() { return make({a_.rows}); }
  // A parameter or its gradient, as a matrix.
  static Tensor shaped(Tensor t, int64_t rows, int64_t columns) {
    t.rank = 2, t.dim[0] = rows, t.dim[1] = columns;
    return t;
  }
  void run(Kernel kernel, std::vector<Tensor> in, std::vector<Tensor> out, std::vector<double> attributes) {
    Call call;
    call.in = in.data(), call.ins = static_cast<int>(in.size());
    call.out = out.data(), call.outs = static_cast<int>(out.size());
    call.attr = attributes.data(), call.attrs = static_cast<int>(attributes.size());
    kernel(call);
  }

 private:
  Tensor make(std::initializer_list<int64_t> dims) {
    Tensor t;
    t.dtype = DType::f64;
    t.rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), t.dim);
    memory_.emplace_back(static_cast<size_t>(std::max<int64_t>(t.size(), 1)));
    t.data = memory_.back().data();
    return t;
  }

  const InnerTransformerArgs& a_;
  std::deque<std::vector<double>> memory_;
};

constexpr double kGelu = static_cast<double>(Activation::gelu);

struct Normed {
  Tensor y, mean, rstd;
};

struct Forward {
  Normed first, second;
  Tensor q, k, v, attended, r, pre, hidden;
};

Forward forward(const InnerTransformerArgs& a, Parts& parts, const Tensor& y) {
  const int64_t d = a.width;
  const auto norm_of = [&](const Tensor& x, int gamma) {
    Normed n{parts.matrix(d), a.rms ? Tensor() : parts.vector(), parts.vector()};
    parts.run(norm, {x, a.parameter[gamma], a.parameter[gamma + 1]}, {n.y, n.mean, n.rstd}, {a.rms ? 1.0 : 0.0, a.eps});
    return n;
  };
  const auto product = [&](const Tensor& x, int weight, int64_t ins, int64_t outs, const Tensor& residual, const Tensor& to, const Tensor& pre, double activation) {
    parts.run(linear, {x, Parts::shaped(a.parameter[weight], ins, outs), a.parameter[weight + 1], residual}, {to, pre}, {activation});
    return to;
  };
  const Tensor none;
  Forward f;
  f.first = norm_of(a.x, kGamma1);
  f.q = product(f.first.y, kWq, d, d, none, parts.matrix(d), none, 0);
  f.k = product(f.first.y, kWk, d, d, none, parts.matrix(d), none, 0);
  f.v = product(f.first.y, kWv, d, d, none, parts.matrix(d), none, 0);
  f.attended = parts.matrix(d);
  parts.run(group_attention, {f.q, f.k, f.v, a.event_offsets}, {f.attended}, {static_cast<double>(a.heads), a.scale, static_cast<double>(a.group)});
  f.r = product(f.attended, kWo, d, d, a.x, parts.matrix(d), none, 0);
  f.second = norm_of(f.r, kGamma2);
  f.pre = parts.matrix(4 * d);
  f.hidden = product(f.second.y, kW1, d, 4 * d, none, parts.matrix(4 * d), f.pre, kGelu);
  if (y.present()) product(f.hidden, kW2, 4 * d, d, f.r, y, none, 0);
  return f;
}

}  // namespace

void inner_transformer(const Call& call) {
  const InnerTransformerArgs a = inner_transformer_args(call, false);
  Parts parts(a);
  forward(a, parts, a.y);
  for (int64_t i = 0; a.outer && i < a.y.size(); ++i) a.y.f64()[i] += a.x.f64()[i];
}

void inner_transformer_dx(const Call& call) {
  const InnerTransformerArgs a = inner_transformer_args(call, true);
  Parts parts(a);
  const Forward f = forward(a, parts, Tensor());
  const int64_t d = a.width;
  const auto of_weight = [&](const Tensor& x, const Tensor& dy, int weight, int64_t ins, int64_t outs) {
    parts.run(linear_dw, {x, dy}, {Parts::shaped(a.gradient[weight], ins, outs), a.gradient[weight + 1]}, {});
  };
  const auto of_input = [&](const Tensor& dy, int weight, int64_t ins, int64_t outs, const Tensor& pre, const Tensor& add, double activation) {
    const Tensor dx = parts.matrix(ins);
    parts.run(linear_dx, {dy, Parts::shaped(a.parameter[weight], ins, outs), pre, add}, {dx}, {activation});
    return dx;
  };
  const auto of_norm = [&](const Tensor& x, const Normed& n, int gamma, const Tensor& dn, const Tensor& add, const Tensor& dx) {
    parts.run(norm_dx, {x, a.parameter[gamma], n.mean, n.rstd, dn, add}, {dx, a.gradient[gamma], a.gradient[gamma + 1]}, {a.rms ? 1.0 : 0.0});
  };
  const Tensor none;
  of_weight(f.hidden, a.dy, kW2, 4 * d, d);
  const Tensor dpre = of_input(a.dy, kW2, 4 * d, d, f.pre, none, kGelu);
  of_weight(f.second.y, dpre, kW1, d, 4 * d);
  const Tensor dr = parts.matrix(d);
  of_norm(f.r, f.second, kGamma2, of_input(dpre, kW1, d, 4 * d, none, none, 0), a.dy, dr);

  of_weight(f.attended, dr, kWo, d, d);
  const Tensor d_o = of_input(dr, kWo, d, d, none, none, 0), dq = parts.matrix(d), dk = parts.matrix(d), dv = parts.matrix(d);
  parts.run(group_attention_dx, {f.q, f.k, f.v, d_o, a.event_offsets}, {dq, dk, dv}, {static_cast<double>(a.heads), a.scale, static_cast<double>(a.group)});
  of_weight(f.first.y, dq, kWq, d, d);
  of_weight(f.first.y, dk, kWk, d, d);
  of_weight(f.first.y, dv, kWv, d, d);
  const Tensor dn = of_input(dq, kWq, d, d, none, of_input(dk, kWk, d, d, none, of_input(dv, kWv, d, d, none, none, 0), 0), 0);
  of_norm(a.x, f.first, kGamma1, dn, dr, a.dx);
  for (int64_t i = 0; a.outer && i < a.dx.size(); ++i) a.dx.f64()[i] += a.dy.f64()[i];
}

}  // namespace longer::reference
