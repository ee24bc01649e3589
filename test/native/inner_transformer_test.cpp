// The reference of inner_transformer against the block written down event by event, and its gradient against finite differences.
#include "kernels/inner_transformer.h"

#include <cmath>
#include <cstdio>

#include "kernels/attention_kernels.h"
#include "op_case.h"

using namespace longer;
using namespace longer::test;

namespace {

using Numbers = std::vector<double>;

struct Block {
  int64_t width, heads, group;
  bool rms, outer;
  std::vector<int32_t> offsets;
  Numbers x, parameter[kInnerParameters];

  int64_t rows() const { return offsets.back(); }
  bool absent(int i) const { return rms && (i == kBeta1 || i == kBeta2); }
};

Block any_block(int64_t width, int64_t heads, int64_t group, bool rms, bool outer, std::vector<int32_t> offsets) {
  Block b{width, heads, group, rms, outer, std::move(offsets), {}, {}};
  const auto fill = [](int64_t count, double low, double high) {
    Numbers v(static_cast<size_t>(count));
    for (double& e : v) e = uniform(low, high);
    return v;
  };
  b.x = fill(b.rows() * width, -2, 2);
  for (int i = 0; i < kInnerParameters; ++i)
    if (!b.absent(i)) b.parameter[i] = fill(inner_parameter_size(i, width), -0.7, 0.7);
  return b;
}

Tensor view(const Numbers& values, std::vector<int64_t> dims, bool absent = false) {
  Tensor t;
  if (absent) return t;
  t.dtype = DType::f64;
  t.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), t.dim);
  t.data = const_cast<double*>(values.data());
  return t;
}

// y, or with dy the gradients: of x, then of the parameters.
std::vector<Numbers> run(const Block& b, const Numbers* dy) {
  std::vector<Numbers> results(dy ? 1 + kInnerParameters : 1, Numbers(b.x.size(), NAN));
  std::vector<Tensor> in{view(b.x, {b.rows(), b.width})}, out{view(results[0], {b.rows(), b.width})};
  if (dy) in.push_back(view(*dy, {b.rows(), b.width}));
  Tensor offsets;
  offsets.dtype = DType::i32, offsets.rank = 1, offsets.dim[0] = static_cast<int64_t>(b.offsets.size());
  offsets.data = const_cast<int32_t*>(b.offsets.data());
  in.push_back(offsets);
  for (int i = 0; i < kInnerParameters; ++i) {
    const int64_t size = inner_parameter_size(i, b.width);
    in.push_back(view(b.parameter[i], {size}, b.absent(i)));
    if (!dy) continue;
    results[static_cast<size_t>(1 + i)].assign(b.parameter[i].size(), NAN);
    out.push_back(view(results[static_cast<size_t>(1 + i)], {size}, b.absent(i)));
  }
  const double attributes[] = {static_cast<double>(b.heads), 0.6, static_cast<double>(b.group), b.rms ? 1.0 : 0.0, 1e-5, b.outer ? 1.0 : 0.0};
  Call call;
  call.in = in.data(), call.ins = static_cast<int>(in.size());
  call.out = out.data(), call.outs = static_cast<int>(out.size());
  call.attr = attributes, call.attrs = 6;
  (dy ? reference::inner_transformer_dx : reference::inner_transformer)(call);
  return results;
}

Numbers written_down(const Block& b) {
  const auto d = static_cast<size_t>(b.width);
  const auto normed = [&](const double* row, int gamma) {
    double mean = 0, square = 0;
    for (size_t c = 0; c < d; ++c) mean += b.rms ? 0 : row[c] / static_cast<double>(d);
    for (size_t c = 0; c < d; ++c) square += (row[c] - mean) * (row[c] - mean) / static_cast<double>(d);
    Numbers n(d);
    for (size_t c = 0; c < d; ++c) n[c] = (row[c] - mean) / std::sqrt(square + 1e-5) * b.parameter[gamma][c] + (b.rms ? 0 : b.parameter[gamma + 1][c]);
    return n;
  };
  const auto product = [&](const Numbers& v, int weight) {
    Numbers y = b.parameter[weight + 1];
    for (size_t o = 0; o < y.size(); ++o)
      for (size_t i = 0; i < v.size(); ++i) y[o] += v[i] * b.parameter[weight][i * y.size() + o];
    return y;
  };
  Numbers y(b.x.size());
  for (size_t request = 0; request + 1 < b.offsets.size(); ++request)
    for (int64_t row = b.offsets[request]; row < b.offsets[request + 1]; ++row) {
      const int64_t end = b.offsets[request + 1] - (b.offsets[request + 1] - 1 - row) / b.group * b.group;  // of its group
      const int64_t begin = std::max<int64_t>(b.offsets[request], end - b.group);
      const double* x = b.x.data() + row * b.width;
      const Numbers q = product(normed(x, kGamma1), kWq);
      Numbers given(d);
      for (int64_t head = 0; head < b.heads; ++head) {
        const auto first = static_cast<size_t>(head * b.width / b.heads), last = static_cast<size_t>((head + 1) * b.width / b.heads);
        double sum = 0;
        Numbers weighted(d);
        for (int64_t key = begin; key < end; ++key) {
          const Numbers n = normed(b.x.data() + key * b.width, kGamma1), k = product(n, kWk), v = product(n, kWv);
          double score = 0;
          for (size_t c = first; c < last; ++c) score += 0.6 * q[c] * k[c];
          sum += std::exp(score);
          for (size_t c = first; c < last; ++c) weighted[c] += std::exp(score) * v[c];
        }
        for (size_t c = first; c < last; ++c) given[c] = weighted[c] / sum;
      }
      Numbers r = product(given, kWo);
      for (size_t c = 0; c < d; ++c) r[c] += x[c];
      Numbers hidden = product(normed(r.data(), kGamma2), kW1);
      for (double& h : hidden) h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0)));
      const Numbers added = product(hidden, kW2);
      for (size_t c = 0; c < d; ++c) y[static_cast<size_t>(row) * d + c] = r[c] + added[c] + (b.outer ? x[c] : 0);
    }
  return y;
}

void check(Block b) {
  const std::string name = "width " + std::to_string(b.width) + ", K " + std::to_string(b.group) + (b.rms ? ", rms" : "");
  const Numbers y = run(b, nullptr)[0], wanted = written_down(b);
  double worst = 0;
  for (size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::fabs(y[i] - wanted[i]));
  expect(worst < 1e-12, name + ": differs from the block written down by " + std::to_string(worst));

  Numbers dy(y.size());
  for (double& e : dy) e = uniform(-1, 1);
  const std::vector<Numbers> gradients = run(b, &dy);
  const auto loss = [&] {
    const Numbers now = run(b, nullptr)[0];
    double sum = 0;
    for (size_t i = 0; i < now.size(); ++i) sum += now[i] * dy[i];
    return sum;
  };
  for (int i = -1; i < kInnerParameters; ++i) {
    Numbers& values = i < 0 ? b.x : b.parameter[i];
    double off = 0;
    for (int sample = 0; sample < 12 && !values.empty(); ++sample) {
      const auto at = static_cast<size_t>(whole(0, static_cast<int64_t>(values.size()) - 1));
      const double kept = values[at], step = 1e-5;
      values[at] = kept + step;
      const double above = loss();
      values[at] = kept - step;
      const double below = loss();
      values[at] = kept;
      off = std::max(off, std::fabs((above - below) / (2 * step) - gradients[static_cast<size_t>(i + 1)][at]));
    }
    expect(off < 1e-6, name + ": finite differences of operand " + std::to_string(i) + " differ by " + std::to_string(off));
  }
}

}  // namespace

int main() {
  check(any_block(6, 2, 4, false, true, {0, 11, 11, 14}));
  check(any_block(6, 1, 8, true, false, {0, 5, 13}));
  check(any_block(4, 4, 1, false, false, {0, 3, 4}));
  check(any_block(8, 2, 16, true, true, {0, 20, 21}));
  const Block nothing = any_block(4, 2, 2, false, true, {0, 0});
  const Numbers dy;
  for (const Numbers& gradient : run(nothing, &dy))
    for (const double e : gradient) expect(e == 0, "without events there is a gradient");
  std::printf("inner_transformer_test: %d PASS, %d FAIL\n", passed, failed);
  return failed ? 1 : 0;
}
