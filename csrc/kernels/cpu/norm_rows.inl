// norm and norm_dx for vector_ops_<isa>.cpp, after a vec_<isa>.h and vec_values.inl. A row's sums run over its vectors
// in ascending order, then over the lanes.
#include <cmath>

namespace {

using longer::cpu::NormDxRows;
using longer::cpu::NormRows;

void norm(const NormRows& a, int64_t row_begin, int64_t row_end) {
  const int64_t width = a.width;
  const float count = static_cast<float>(width);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const int64_t row = r * width;
    float mean = 0;
    if (!a.rms) {
      Vec total = set(0.0f);
      for (int64_t c = 0; c < width; c += kLanes) total = add(total, get(a.x, row + c, lanes_left(c, width)));
      mean = sum_lanes(total) / count;
    }
    Vec squares = set(0.0f);
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = lanes_left(c, width);
      const Vec x = sub(get(a.x, row + c, n), set(mean));
      if (n == kLanes) {
        squares = fma(x, x, squares);
      } else {
        float lanes[kLanes];
        store(lanes, x);
        const Vec part = load_part(lanes, n);
        squares = fma(part, part, squares);
      }
    }
    const float rstd = 1.0f / std::sqrt(sum_lanes(squares) / count + a.eps);
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = lanes_left(c, width);
      const Vec h = mul(sub(get(a.x, row + c, n), set(mean)), set(rstd));
      const Vec gamma = load_n(a.gamma + c, n);
      put(a.y, row + c, a.beta ? fma(h, gamma, load_n(a.beta + c, n)) : mul(h, gamma), n);
    }
    if (a.mean) a.mean[r] = mean;
    if (a.rstd) a.rstd[r] = rstd;
  }
}

void norm_dx(const NormDxRows& a, float* dgamma, float* dbeta, int64_t row_begin, int64_t row_end) {
  const int64_t width = a.width;
  const float count = static_cast<float>(width);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const int64_t row = r * width;
    const Vec mean = set(a.mean ? a.mean[r] : 0.0f), rstd = set(a.rstd[r]);
    Vec sum_g = set(0.0f), sum_gh = set(0.0f);
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = lanes_left(c, width);
      const Vec h = mul(sub(get(a.x, row + c, n), mean), rstd), dy = get(a.dy, row + c, n);
      const Vec g = mul(dy, load_n(a.gamma + c, n));  // zero beyond n
      sum_g = add(sum_g, g);
      sum_gh = fma(g, h, sum_gh);
      store_n(dgamma + c, fma(dy, h, load_n(dgamma + c, n)), n);
      if (dbeta) store_n(dbeta + c, add(load_n(dbeta + c, n), dy), n);
    }
    const Vec mean_g = set(a.mean ? sum_lanes(sum_g) / count : 0.0f), mean_gh = set(sum_lanes(sum_gh) / count);
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = lanes_left(c, width);
      const Vec h = mul(sub(get(a.x, row + c, n), mean), rstd);
      const Vec g = mul(get(a.dy, row + c, n), load_n(a.gamma + c, n));
      const Vec dx = mul(rstd, sub(sub(g, mean_g), mul(h, mean_gh)));
      put(a.dx, row + c, a.add.data ? add(dx, get(a.add, row + c, n)) : dx, n);
    }
  }
}

}  // namespace
