// The body of vector_ops_<isa>.cpp, after a vec_<isa>.h, vec_math.inl and vec_values.inl.

namespace {

using longer::cpu::DropoutRange;

template <class F>
inline void each_vector(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) f(i, int64_t{kLanes});
  if (i < end) f(i, end - i);
}

void activation(Activation kind, Values x, Values y, int64_t begin, int64_t end) {
  with_activation(kind, [&](auto k) {
    each_vector(begin, end, [&](int64_t i, int64_t n) { put(y, i, activate<decltype(k)::kind>(get(x, i, n)), n); });
  });
}

void activation_dx(Activation kind, Values x, Values dy, Values dx, int64_t begin, int64_t end) {
  with_activation(kind, [&](auto k) {
    each_vector(begin, end, [&](int64_t i, int64_t n) {
      put(dx, i, mul(get(dy, i, n), activation_slope<decltype(k)::kind>(get(x, i, n))), n);
    });
  });
}

void add_terms(const Values* terms, int count, Values y, int64_t begin, int64_t end) {
  each_vector(begin, end, [&](int64_t i, int64_t n) {
    Vec s = get(terms[0], i, n);
    for (int t = 1; t < count; ++t) s = add(s, get(terms[t], i, n));
    put(y, i, s, n);
  });
}

void swiglu(Values a, Values y, int64_t hidden, int64_t row_begin, int64_t row_end) {
  for (int64_t r = row_begin; r < row_end; ++r)
    each_vector(0, hidden, [&](int64_t c, int64_t n) {
      const int64_t left = 2 * r * hidden + c;
      put(y, r * hidden + c, mul(activate<Activation::silu>(get(a, left, n)), get(a, left + hidden, n)), n);
    });
}

void swiglu_dx(Values a, Values dy, Values da, int64_t hidden, int64_t row_begin, int64_t row_end) {
  const Vec one = set(1.0f);
  for (int64_t r = row_begin; r < row_end; ++r)
    each_vector(0, hidden, [&](int64_t c, int64_t n) {
      const int64_t left = 2 * r * hidden + c;
      const Vec x = get(a, left, n), right = get(a, left + hidden, n), d = get(dy, r * hidden + c, n);
      const Vec s = sigmoid_vec(x);
      put(da, left, mul(mul(d, right), mul(s, fma(x, sub(one, s), one))), n);
      put(da, left + hidden, mul(d, mul(x, s)), n);
    });
}

void gate(Values x, Values g, Values y, int64_t begin, int64_t end) {
  each_vector(begin, end, [&](int64_t i, int64_t n) { put(y, i, mul(get(x, i, n), sigmoid_vec(get(g, i, n))), n); });
}

void gate_dx(Values x, Values g, Values dy, Values dx, Values dg, int64_t begin, int64_t end) {
  const Vec one = set(1.0f);
  each_vector(begin, end, [&](int64_t i, int64_t n) {
    const Vec s = sigmoid_vec(get(g, i, n)), d = mul(get(dy, i, n), s), value = get(x, i, n);
    put(dx, i, d, n);
    put(dg, i, mul(mul(d, value), sub(one, s)), n);
  });
}

void cast(Values x, Values y, int64_t begin, int64_t end) {
  each_vector(begin, end, [&](int64_t i, int64_t n) { put(y, i, get(x, i, n), n); });
}

constexpr int kGroups = 16;  // counters of the random numbers that are worked on at a time

// Philox4x32-10 of kGroups counters from `group` on: four words each, in the order of the elements.
void philox(const DropoutRange& d, uint64_t group, uint32_t* words) {
  uint32_t w[4][kGroups];
  for (int i = 0; i < kGroups; ++i) {
    w[0][i] = static_cast<uint32_t>(group + i);
    w[1][i] = static_cast<uint32_t>((group + i) >> 32);
    w[2][i] = d.stream[0];
    w[3][i] = d.stream[1];
  }
  uint32_t key0 = d.key[0], key1 = d.key[1];
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u)
    for (int i = 0; i < kGroups; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * w[0][i], b = uint64_t{0xCD9E8D57u} * w[2][i];
      w[0][i] = static_cast<uint32_t>(b >> 32) ^ w[1][i] ^ key0;
      w[1][i] = static_cast<uint32_t>(b);
      w[2][i] = static_cast<uint32_t>(a >> 32) ^ w[3][i] ^ key1;
      w[3][i] = static_cast<uint32_t>(a);
    }
  for (int i = 0; i < kGroups; ++i)
    for (int j = 0; j < 4; ++j) words[4 * i + j] = w[j][i];
}

// A dropped element is zero even where x is not finite.
void dropout(const DropoutRange& d, int64_t begin, int64_t end) {
  uint32_t words[4 * kGroups];
  float keep[4 * kGroups + 16] = {};  // the last vector of a range may read past what is used
  for (int64_t at = begin; at < end;) {
    const uint64_t number = d.first + static_cast<uint64_t>(at);
    const int64_t skip = static_cast<int64_t>(number % 4), full = at + 4 * kGroups - skip, stop = full < end ? full : end;
    philox(d, number / 4, words);
    for (int i = 0; i < 4 * kGroups; ++i) keep[i] = words[i] >= d.threshold ? 1.0f : 0.0f;
    each_vector(at, stop, [&](int64_t i, int64_t n) {
      const Vec kept = mul(get(d.x, i, n), set(d.factor));
      put(d.y, i, if_less(set(0.0f), load(keep + skip + i - at), kept, set(0.0f)), n);
    });
    at = stop;
  }
}

}  // namespace
