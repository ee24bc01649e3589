// The body of gemm_<isa>.cpp. The including file includes a vec_<isa>.h, vec_math.inl and vec_values.inl, and defines
//   kGroup, kRowTile, kVectors, kSmallVectors
//   Vec multiply_add(Vec a, Vec b, Vec sum)   words of a and b
//   put_words(const GemmSource&, k, c, cols, float*)   word k of columns c .. c + cols - 1

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
        if (g.finish.bias) v = add(v, load_n(g.finish.bias + col + c, n));
        put(g.finish.out, at, finished<decltype(kind)::kind>(g.finish, v, at, n), n);
      }
  });
}

// From registers where nothing but bias and an f32 residual is to be done, else by way of a buffer in the cache.
template <int R, int V>
inline void finish_registers(const GemmBlock& g, Vec (&acc)[R][V], int64_t row, int64_t col, int64_t cols) {
  const GemmFinish& f = g.finish;
  if (cols == V * kLanes && f.activation == Activation::none && !f.pre.data && !f.out.is_bf16 && !f.residual.is_bf16) {
    const int64_t at = row * g.finish_cols + col;
    float* out = static_cast<float*>(f.out.data) + at;
    const float* residual = f.residual.data ? static_cast<const float*>(f.residual.data) + at : nullptr;
    if (f.bias) {
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) {
        const Vec bias = load(f.bias + col + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) acc[i][j] = add(acc[i][j], bias);
      }
    }
    if (residual) {
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) acc[i][j] = add(acc[i][j], load(residual + i * g.finish_cols + j * kLanes));
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store(out + i * g.finish_cols + j * kLanes, acc[i][j]);
    return;
  }
  float buffer[R * kBuffer];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) store(buffer + i * kBuffer + j * kLanes, acc[i][j]);
  finish_tile(g, buffer, R, row, col, cols);
}

// acc += a b. Of a, rows are a_row words apart and the words of a row a_step; one of them is 1, which one is known at
// compile time. Words of b are b_stride apart.
template <int R, int V, bool RowsTogether>
inline void accumulate(Vec (&acc)[R][V], const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_stride,
                       int64_t words) {
  for (int64_t k = 0; k < words; ++k, b += b_stride) {
    Vec row[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec factor = set(RowsTogether ? a[k * a_step + i] : a[i * a_row + k]);
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
  accumulate<R, V, false>(acc, a, g.a_stride, 1, b, kPanel, g.words);
  finish_registers(g, acc, row, col, cols);
}

using MultiplyTile = void (*)(const GemmBlock&, const float*, const float*, int64_t, int64_t, int64_t);

template <int R, int V>
void sum_tile(const GemmSum& g, const float* a, const float* b, float* c) {
  Vec acc[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = g.first ? set(0.0f) : load(c + i * g.c_stride + j * kLanes);
  accumulate<R, V, true>(acc, a, 1, g.a_step, b, g.b_step, g.words);
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
      table.sum[least(kRowTile, g.rows - r)](g, g.a + (r / kRowTile) * g.a_panel, g.b + (c / kPanel) * g.b_panel,
                                             g.c + r * g.c_stride + c);
}

void pack(const GemmSource& s, int64_t width, float* panels) {
  const int64_t words = (s.inner + kGroup - 1) / kGroup;
  for (int64_t k = 0; k < words; ++k)
    for (int64_t c = 0; c < s.cols; c += width) {
      const int64_t cols = least(width, s.cols - c);
      float* to = panels + c * words + k * width;
      put_words(s, k, c, cols, to);
      for (int64_t i = cols; i < width; ++i) to[i] = 0;
    }
}

void add_rows(Values from, int64_t stride, int64_t rows, int64_t cols, float* sums) {
  constexpr int kChains = 4;
  int64_t c = 0;
  for (; c + kChains * kLanes <= cols; c += kChains * kLanes) {
    Vec s[kChains];
    for (int j = 0; j < kChains; ++j) s[j] = load(sums + c + j * kLanes);
    for (int64_t r = 0; r < rows; ++r)
      for (int j = 0; j < kChains; ++j) s[j] = add(s[j], get(from, r * stride + c + j * kLanes, kLanes));
    for (int j = 0; j < kChains; ++j) store(sums + c + j * kLanes, s[j]);
  }
  for (; c < cols; c += kLanes) {
    const int64_t n = lanes_left(c, cols);
    Vec s = load_n(sums + c, n);
    for (int64_t r = 0; r < rows; ++r) s = add(s, get(from, r * stride + c, n));
    store_n(sums + c, s, n);
  }
}

}  // namespace
