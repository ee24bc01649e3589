// The body of gemm_<isa>.cpp. The including file includes a vec_<isa>.h, vec_math.inl and vec_values.inl, and defines
//   kGroup, kRowTile, kVectors, kSmallRows, kSmallVectors
//   Vec multiply_add(Vec a, Vec b, Vec sum)   words of a and b
//   put_word(const GemmSource&, k, c, float*)  word k of column c

namespace {

using longer::cpu::GemmBlock;
using longer::cpu::GemmFinish;
using longer::cpu::GemmKernel;
using longer::cpu::GemmSource;
using longer::cpu::GemmSum;

constexpr int64_t kPanel = kVectors * kLanes;

template <Activation kind>
inline Vec finished(const GemmFinish& f, Vec v, int64_t at, int64_t n) {
  if (f.backward) {
    if (f.pre.data) v = mul(v, activation_slope<kind>(get(f.pre, at, n)));
  } else {
    if (f.pre.data) put(f.pre, at, v, n);
    v = activate<kind>(v);
  }
  return f.residual.data ? add(v, get(f.residual, at, n)) : v;
}

// rows x cols values with a stride of kBuffer, at (row, col)
constexpr int64_t kBuffer = (kSmallVectors > kVectors ? kSmallVectors : kVectors) * kLanes;

void finish_tile(const GemmBlock& g, const float* buffer, int64_t rows, int64_t row, int64_t col, int64_t cols) {
  with_activation(g.finish.activation, [&](auto kind) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; c += kLanes) {
        const int64_t n = lanes_left(c, cols), at = (row + r) * g.finish_cols + col + c;
        Vec v = load(buffer + r * kBuffer + c);
        if (g.finish.bias) v = add(v, n == kLanes ? load(g.finish.bias + col + c) : load_part(g.finish.bias + col + c, n));
        put(g.finish.out, at, finished<decltype(kind)::kind>(g.finish, v, at, n), n);
      }
  });
}

// acc += a b; rows of a are a_row words apart, words of a row a_step, words of b b_stride.
template <int R, int V, bool PackedA>
inline void accumulate(Vec (&acc)[R][V], const float* a, int64_t a_row, const float* b, int64_t b_stride, int64_t words) {
  for (int64_t k = 0; k < words; ++k, b += b_stride) {
    Vec row[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec factor = set(PackedA ? a[k * kRowTile + i] : a[i * a_row + k]);
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = multiply_add(factor, row[j], acc[i][j]);
    }
  }
}

template <int R, int V>
void multiply_tile(const GemmBlock& g, const float* a, const float* b, int64_t row, int64_t col, int64_t cols) {
  Vec acc[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = set(0.0f);
  accumulate<R, V, false>(acc, a, g.a_stride, b, kPanel, g.words);
  float buffer[R * kBuffer];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) store(buffer + i * kBuffer + j * kLanes, acc[i][j]);
  finish_tile(g, buffer, R, row, col, cols);
}

using MultiplyTile = void (*)(const GemmBlock&, const float*, const float*, int64_t, int64_t, int64_t);

template <int R, int V>
void sum_tile(const GemmSum& g, const float* a, const float* b, float* c) {
  Vec acc[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = g.first ? set(0.0f) : load(c + i * g.c_stride + j * kLanes);
  accumulate<R, V, true>(acc, a, 0, b, kPanel, g.words);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) store(c + i * g.c_stride + j * kLanes, acc[i][j]);
}

using SumTile = void (*)(const GemmSum&, const float*, const float*, float*);

template <int R>
struct Tiles {  // fills the tables of tiles for 1 .. R rows
  static void fill(MultiplyTile* multiply, SumTile* sum) {
    multiply[R] = multiply_tile<R, kVectors>;
    sum[R] = sum_tile<R, kVectors>;
    Tiles<R - 1>::fill(multiply, sum);
  }
};
template <>
struct Tiles<0> {
  static void fill(MultiplyTile*, SumTile*) {}
};

struct TileTable {
  MultiplyTile multiply[kRowTile + 1];
  SumTile sum[kRowTile + 1];
};

const TileTable& tiles() {
  static const TileTable table = [] {
    TileTable t;
    Tiles<kRowTile>::fill(t.multiply, t.sum);
    return t;
  }();
  return table;
}

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void multiply(const GemmBlock& g) {
  const TileTable& table = tiles();
  const auto one = [&](int64_t r, int64_t c) {
    const int64_t rows = least(kRowTile, g.rows - r), cols = least(kPanel, g.cols - c);
    table.multiply[rows](g, g.a + r * g.a_stride, g.b + c * g.words, g.row + r, g.col + c, cols);
  };
  constexpr int64_t kCacheWords = 65536;  // panels of this size stay in the second-level cache beside the rows
  if (g.words * g.cols <= kCacheWords) {
    for (int64_t r = 0; r < g.rows; r += kRowTile)
      for (int64_t c = 0; c < g.cols; c += kPanel) one(r, c);
  } else {
    for (int64_t c = 0; c < g.cols; c += kPanel)
      for (int64_t r = 0; r < g.rows; r += kRowTile) one(r, c);
  }
}

void sum(const GemmSum& g) {
  const TileTable& table = tiles();
  for (int64_t c = 0; c < g.cols; c += kPanel)
    for (int64_t r = 0; r < g.rows; r += kRowTile)
      table.sum[least(kRowTile, g.rows - r)](g, g.a + r * g.words, g.b + c * g.words, g.c + r * g.c_stride + c);
}

void pack(const GemmSource& s, int64_t width, float* panels) {
  const int64_t words = (s.inner + kGroup - 1) / kGroup;
  for (int64_t c = 0; c < s.cols; c += width) {
    const int64_t cols = least(width, s.cols - c);
    float* to = panels + c * words;
    for (int64_t k = 0; k < words; ++k, to += width) {
      put_words(s, k, c, cols, to);
      for (int64_t i = cols; i < width; ++i) to[i] = 0;
    }
  }
}

void add_rows(Values from, int64_t stride, int64_t rows, int64_t cols, float* sums) {
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t n = lanes_left(c, cols);
    Vec s = n == kLanes ? load(sums + c) : load_part(sums + c, n);
    for (int64_t r = 0; r < rows; ++r) s = add(s, get(from, r * stride + c, n));
    if (n == kLanes) store(sums + c, s); else store_part(sums + c, s, n);
  }
}

}  // namespace
