#include "peers.h"

#include <cmath>
#include <cstring>

#include "op_call.h"
#ifdef LONGER_BENCH_DNNL
#include <dnnl.hpp>
#endif
#ifdef LONGER_BENCH_XSMM
#include <libxsmm.h>
#endif

namespace bench {

using longer::DType;
using longer::Tensor;

namespace {

double value(const Tensor& t, int64_t i) {
  if (t.dtype == DType::f32) return t.f32()[i];
  const uint32_t word = static_cast<uint32_t>(t.bf16()[i]) << 16;
  float v;
  std::memcpy(&v, &word, 4);
  return v;
}

#ifdef LONGER_BENCH_DNNL
// oneDNN's matmul on the same plain row-major operands. Its threads are OpenMP's: OMP_NUM_THREADS is set by the caller.
class DnnlLinear : public PeerLinear {
 public:
  explicit DnnlLinear(const LinearProblem& p)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), y_(p.x.dtype, {p.x.dim[0], p.w.dim[1]}) {
    using dnnl::memory;
    const auto type = p.x.dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    const memory::dim rows = p.x.dim[0], inner = p.x.dim[1], outer = p.w.dim[1];
    const auto plain = memory::format_tag::ab;
    const memory::desc x({rows, inner}, type, plain), w({inner, outer}, type, plain), y({rows, outer}, type, plain);
    const memory::desc bias({1, outer}, memory::data_type::f32, plain);
    dnnl::post_ops after;
    if (p.gelu) after.append_eltwise(1.f, dnnl::algorithm::eltwise_gelu_erf, 0.f, 0.f);
    else after.append_binary(dnnl::algorithm::binary_add, y);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(after);
    matmul_ = dnnl::matmul({{x, w, bias, y}, attributes, engine_});
    arguments_ = {{DNNL_ARG_SRC, memory(x, engine_, p.x.data)}, {DNNL_ARG_WEIGHTS, memory(w, engine_, p.w.data)},
                  {DNNL_ARG_BIAS, memory(bias, engine_, p.bias.data)}, {DNNL_ARG_DST, memory(y, engine_, y_.tensor.data)}};
    if (!p.gelu) arguments_.insert({DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, memory(y, engine_, p.residual.data)});
  }
  const char* name() const override { return "onednn"; }
  void run() override {
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }
  double difference(const Tensor& y) const override { return largest_difference(y, y_.tensor); }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::unordered_map<int, dnnl::memory> arguments_;
  Buffer y_;
};
#endif

#ifdef LONGER_BENCH_XSMM
// libxsmm's generated kernels as its guide has them used: weights packed into blocks of columns (in the time), tiles of
// rows dealt to threads, each tile started from bias + residual while it is in cache.
class XsmmLinear : public PeerLinear {
 public:
  explicit XsmmLinear(const LinearProblem& p) : problem_(p), y_(DType::f32, {p.x.dim[0], p.w.dim[1]}), packed_(DType::f32, {p.w.dim[0], p.w.dim[1]}) {
    const int inner = static_cast<int>(p.x.dim[1]), outer = static_cast<int>(p.w.dim[1]), columns = kColumns, rows = kRows;
    const float one = 1;
    // Column-major y^T = w^T x^T: the rows of a tile are libxsmm's columns.
    kernel_ = libxsmm_smmdispatch(columns, rows, inner, &columns, &inner, &outer, &one, &one, nullptr, nullptr);
  }
  bool works() const { return kernel_ != nullptr; }
  const char* name() const override { return "libxsmm"; }
  void run() override {
    const int64_t rows = problem_.x.dim[0], inner = problem_.x.dim[1], outer = problem_.w.dim[1];
    const float *x = problem_.x.f32(), *w = problem_.w.f32(), *bias = problem_.bias.f32(), *residual = problem_.residual.f32();
    float *y = y_.tensor.f32(), *packed = packed_.tensor.f32();
    problem_.pool->parallel_for(outer / kColumns, [&](int64_t block, int) {
      for (int64_t k = 0; k < inner; ++k)
        std::memcpy(packed + block * kColumns * inner + k * kColumns, w + k * outer + block * kColumns, kColumns * sizeof(float));
    });
    problem_.pool->parallel_for(rows / kRows, [&](int64_t tile, int) {
      const int64_t first = tile * kRows;
      for (int64_t column = 0; column < outer; column += kColumns) {
        for (int64_t r = first; r < first + kRows; ++r)
          for (int64_t c = column; c < column + kColumns; ++c) y[r * outer + c] = bias[c] + residual[r * outer + c];
        kernel_(packed + column * inner, x + first * inner, y + first * outer + column);
      }
    });
  }
  double difference(const Tensor& y) const override { return largest_difference(y, y_.tensor); }

 private:
  static constexpr int kColumns = 64, kRows = 64;
  LinearProblem problem_;
  Buffer y_, packed_;
  libxsmm_smmfunction kernel_ = nullptr;
};
#endif

}  // namespace

double largest_difference(const Tensor& a, const Tensor& b) {
  double worst = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(value(a, i) - value(b, i)) / (1 + std::fabs(value(a, i)));
    worst = d > worst || std::isnan(d) ? d : worst;
    if (std::isnan(d)) break;
  }
  return worst;
}

std::vector<std::unique_ptr<PeerLinear>> peer_linears(const LinearProblem& problem) {
  std::vector<std::unique_ptr<PeerLinear>> peers;
#ifdef LONGER_BENCH_DNNL
  try {
    peers.push_back(std::make_unique<DnnlLinear>(problem));
  } catch (const dnnl::error&) {  // no bf16 on this CPU
  }
#endif
#ifdef LONGER_BENCH_XSMM
  if (problem.x.dtype == DType::f32 && !problem.gelu) {
    auto peer = std::make_unique<XsmmLinear>(problem);
    if (peer->works()) peers.push_back(std::move(peer));
  }
#endif
  (void)problem;
  return peers;
}

}  // namespace bench
