// The body of step_ops_<isa>.cpp, after a vec_<isa>.h and vec_values.inl.

namespace {

using longer::cpu::DenseStep;
using longer::cpu::SparseStep;

template <class F>
inline void each_vector(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) f(i, int64_t{kLanes});
  if (i < end) f(i, end - i);
}

// keep * mean + rest * x
inline Vec blend(Vec keep, Vec mean, Vec rest, Vec x) { return fma(keep, mean, mul(rest, x)); }

void adamw(const DenseStep& s, int64_t begin, int64_t end) {
  const Vec b1 = set(s.a), b2 = set(s.b), rest1 = set(s.a_rest), rest2 = set(s.b_rest), eps = set(s.eps), rate = set(s.rate);
  const Vec up1 = set(s.first_up), up2 = set(s.second_up), scale = set(s.scale), wd = set(s.weight_decay);
  each_vector(begin, end, [&](int64_t i, int64_t n) {
    const Vec g = mul(load_n(s.grad + i, n), scale), p = load_n(s.param + i, n);
    const Vec m = blend(b1, load_n(s.first + i, n), rest1, g), v = blend(b2, load_n(s.second + i, n), rest2, mul(g, g));
    Vec step = divide(mul(m, up1), add(root(mul(v, up2)), eps));
    if (s.decay) step = fma(mul(wd, load_n(s.decay + i, n)), p, step);
    store_n(s.first + i, m, n);
    store_n(s.second + i, v, n);
    store_n(s.param + i, sub(p, mul(rate, step)), n);
  });
}

void rmsprop(const DenseStep& s, int64_t begin, int64_t end) {
  const Vec alpha = set(s.a), rest = set(s.a_rest), momentum = set(s.b), eps = set(s.eps), rate = set(s.rate), scale = set(s.scale);
  const Vec shrink = set(s.rate * s.weight_decay);
  each_vector(begin, end, [&](int64_t i, int64_t n) {
    const Vec g = mul(load_n(s.grad + i, n), scale), p = load_n(s.param + i, n);
    const Vec v = blend(alpha, load_n(s.first + i, n), rest, mul(g, g));
    const Vec velocity = fma(momentum, load_n(s.second + i, n), divide(mul(rate, g), root(add(v, eps))));
    const Vec step = s.decay ? fma(mul(shrink, load_n(s.decay + i, n)), p, velocity) : velocity;
    store_n(s.first + i, v, n);
    store_n(s.second + i, velocity, n);
    store_n(s.param + i, sub(p, step), n);
  });
}

void accumulate(Values x, float* y, int64_t begin, int64_t end) {
  each_vector(begin, end, [&](int64_t i, int64_t n) { store_n(y + i, add(load_n(y + i, n), get(x, i, n)), n); });
}

void ema(Values x, float decay, float* y, int64_t begin, int64_t end) {
  const Vec keep = set(decay), rest = set(1.0f - decay);
  each_vector(begin, end, [&](int64_t i, int64_t n) { store_n(y + i, blend(keep, load_n(y + i, n), rest, get(x, i, n)), n); });
}

// Sixteen partial sums whatever the instruction set.
double sum_squares(Values x, int64_t begin, int64_t end) {
  constexpr int kSums = 16;
  double sums[kSums] = {};
  float part[kSums];
  for (int64_t at = begin; at < end; at += kSums) {
    const int64_t left = end - at < kSums ? end - at : kSums;
    const float* numbers = static_cast<const float*>(x.data) + at;
    if (x.is_bf16 || left < kSums) {
      for (int i = 0; i < kSums; ++i) part[i] = 0;
      for (int64_t i = 0; i < left; i += kLanes) store_n(part + i, get(x, at + i, lanes_left(i, left)), lanes_left(i, left));
      numbers = part;
    }
    for (int i = 0; i < kSums; ++i) {
      const double v = numbers[i];
      sums[i] += v * v;
    }
  }
  double sum = 0;
  for (int i = 0; i < kSums; ++i) sum += sums[i];
  return sum;
}

constexpr int64_t kAhead = 6;  // rows that are fetched before they are needed

inline void fetch_rows(const SparseStep& s, const float* state, int64_t i, int64_t end, bool whole_state) {
  if (i + kAhead >= end) return;
  const int64_t id = s.rows[i + kAhead];
  for (int64_t c = 0; c < s.width; c += 16) __builtin_prefetch(s.table + id * s.width + c, 1);
  if (!whole_state) __builtin_prefetch(state + id, 1);
  else
    for (int64_t c = 0; c < s.width; c += 16) __builtin_prefetch(state + id * s.width + c, 1);
}

void rowwise_adagrad(const SparseStep& s, int64_t begin, int64_t end) {
  const Vec scale = set(s.scale);
  for (int64_t r = begin; r < end; ++r) {
    fetch_rows(s, s.first, r, end, false);
    const float* grad = s.grad + r * s.width;
    float* row = s.table + s.rows[r] * s.width;
    Vec squares = set(0.0f);
    each_vector(0, s.width, [&](int64_t i, int64_t n) {
      const Vec g = mul(load_n(grad + i, n), scale);
      squares = fma(g, g, squares);
    });
    float* state = s.first + s.rows[r];
    *state += sum_lanes(squares) / static_cast<float>(s.width);
    const Vec rate = set(s.rate / (__builtin_sqrtf(*state) + s.eps));
    each_vector(0, s.width, [&](int64_t i, int64_t n) {
      store_n(row + i, sub(load_n(row + i, n), mul(rate, mul(load_n(grad + i, n), scale))), n);
    });
  }
}

void sparse_adagrad(const SparseStep& s, int64_t begin, int64_t end) {
  const Vec scale = set(s.scale), rate = set(s.rate), eps = set(s.eps);
  for (int64_t r = begin; r < end; ++r) {
    fetch_rows(s, s.first, r, end, true);
    const float* grad = s.grad + r * s.width;
    float* row = s.table + s.rows[r] * s.width;
    float* state = s.first + s.rows[r] * s.width;
    each_vector(0, s.width, [&](int64_t i, int64_t n) {
      const Vec g = mul(load_n(grad + i, n), scale), sum = fma(g, g, load_n(state + i, n));
      store_n(state + i, sum, n);
      store_n(row + i, sub(load_n(row + i, n), divide(mul(rate, g), add(root(sum), eps))), n);
    });
  }
}

void sparse_adam(const SparseStep& s, const float* up, int64_t begin, int64_t end) {
  const Vec b1 = set(s.beta1), b2 = set(s.beta2), rest1 = set(s.rest1), rest2 = set(s.rest2);
  const Vec scale = set(s.scale), rate = set(s.rate), eps = set(s.eps);
  for (int64_t r = begin; r < end; ++r, up += 2) {
    fetch_rows(s, s.first, r, end, true);
    const int64_t at = s.rows[r] * s.width;
    const Vec up1 = set(up[0]), up2 = set(up[1]);
    each_vector(0, s.width, [&](int64_t i, int64_t n) {
      const Vec g = mul(load_n(s.grad + r * s.width + i, n), scale);
      const Vec m = blend(b1, load_n(s.first + at + i, n), rest1, g);
      const Vec v = blend(b2, load_n(s.second + at + i, n), rest2, mul(g, g));
      store_n(s.first + at + i, m, n);
      store_n(s.second + at + i, v, n);
      const Vec step = divide(mul(rate, mul(m, up1)), add(root(mul(v, up2)), eps));
      store_n(s.table + at + i, sub(load_n(s.table + at + i, n), step), n);
    });
  }
}

}  // namespace
