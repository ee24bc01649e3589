// The body of gemm_<isa>.cpp. The including file includes a vec_<isa>.h, vec_math.inl and vec_values.inl, and defines
//   kGroup                      elements a word
//   kRowTile, kVectors          the tile of multiply(): rows, vectors of columns
//   kSmallRows, kSmallVectors   that of small()
//   kSumRows, kSumVectors       that of sum(); kSumRows divides kLanes
//   Vec multiply_add(Vec a, Vec b, Vec sum)   words of a and b
//   Vec add_words(Vec sum, Vec words)         each element of a word, in order
//   Vec words_across(from, rounded, at, stride, both, n)   n words that lie side by side; the second element of a word,
//                               if there is one (both), is `stride` after its first
//   Vec words_along(from, rounded, at, n)     words that are read along the reduction: n elements, then zeros

namespace {
constexpr int64_t kPanel = kVectors * kLanes;
}

#include "kernels/cpu/gemm_finish.inl"
#include "kernels/cpu/gemm_pack.inl"

namespace {

using longer::cpu::GemmKernel;
using longer::cpu::GemmSum;

template <int R, int V>
inline void clear(Vec (&acc)[R][V]) {
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = set(0.0f);
}

template <int R, int V>
void multiply_tile(const GemmBlock& g, const float* a, const float* b, int64_t row, int64_t col, int64_t cols) {
  Vec acc[R][V];
  clear(acc);
  await_finish(g, R, row, col);
  for (int64_t k = 0; k < g.words; ++k, b += kPanel) {
    Vec factors[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) factors[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec factor = set(a[i * g.a_stride + k]);
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = multiply_add(factor, factors[j], acc[i][j]);
    }
  }
  finish_registers(g, acc, row, col, cols);
}

template <int R, int V>
void sum_tile(const GemmSum& g, const float* a, const float* b, float* c) {
  Vec acc[R][V];
  if (g.first) {
    clear(acc);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = load(c + i * g.c_stride + j * kLanes);
  }
  const int64_t a_step = g.a_step, b_step = g.b_step, b_panel = g.b_panel;
  for (int64_t k = 0; k < g.words; ++k, a += a_step, b += b_step) {
    Vec factors[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) factors[j] = load(b + j * b_panel);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec factor = set(a[i]);
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = multiply_add(factor, factors[j], acc[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) store(c + i * g.c_stride + j * kLanes, acc[i][j]);
}

using MultiplyTile = void (*)(const GemmBlock&, const float*, const float*, int64_t, int64_t, int64_t);
using SumTile = void (*)(const GemmSum&, const float*, const float*, float*);

// [vectors][rows]
struct TileTable {
  MultiplyTile multiply[kVectors + 1][kRowTile + 1] = {};
  SumTile sum[kSumVectors + 1][kSumRows + 1] = {};
};

template <int R, int V>
void fill_multiply(TileTable& t) {
  t.multiply[V][R] = multiply_tile<R, V>;
  if constexpr (R > 1) fill_multiply<R - 1, V>(t);
  else if constexpr (V > 1) fill_multiply<kRowTile, V - 1>(t);
}

template <int R, int V>
void fill_sum(TileTable& t) {
  t.sum[V][R] = sum_tile<R, V>;
  if constexpr (R > 1) fill_sum<R - 1, V>(t);
  else if constexpr (V > 1) fill_sum<kSumRows, V - 1>(t);
}

const TileTable& tiles() {
  static const TileTable table = [] {
    TileTable t;
    fill_multiply<kRowTile, kVectors>(t);
    fill_sum<kSumRows, kSumVectors>(t);
    return t;
  }();
  return table;
}

// A single row takes several panels at once: one alone waits for its own sums.
constexpr int kAlone = 4;
void alone_tile(const GemmBlock& g, int64_t row, int64_t col) {
  const float* a = g.a + row * g.a_stride;
  const float* b = g.b + col * g.words;
  Vec acc[1][kAlone * kVectors];
  clear(acc);
  for (int64_t k = 0; k < g.words; ++k, b += kPanel) {
    const Vec factor = set(a[k]);
#pragma GCC unroll 4
    for (int p = 0; p < kAlone; ++p)
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        Vec& sum = acc[0][p * kVectors + j];
        sum = multiply_add(factor, load(b + p * kPanel * g.words + j * kLanes), sum);
      }
  }
  finish_registers(g, acc, g.row + row, g.col + col, kAlone * kPanel);
}

// As many rows as two tiles have, but not more: a vector of columns at a time, so that b, which is all that has to come from
// far, is read once.
constexpr int kTallRows = 2 * kRowTile;
template <int R>
void tall_tiles(const GemmBlock& g) {
  if (g.rows != R) {
    if constexpr (R > kRowTile + 1) tall_tiles<R - 1>(g);
    return;
  }
  for (int64_t c = 0; c < g.cols; c += kLanes) {
    const float* b = g.b + c / kPanel * kPanel * g.words + c % kPanel;
    Vec acc[R][1];
    clear(acc);
    for (int64_t k = 0; k < g.words; ++k) {
      const Vec factor = load(b + k * kPanel);
#pragma GCC unroll 32
      for (int i = 0; i < R; ++i) acc[i][0] = multiply_add(set(g.a[i * g.a_stride + k]), factor, acc[i][0]);
    }
    finish_registers(g, acc, g.row, g.col + c, least(kLanes, g.cols - c));
  }
}

void tall(const GemmBlock& g) { tall_tiles<kTallRows>(g); }

void multiply(const GemmBlock& g) {
  if (g.rows > kRowTile && g.rows <= kTallRows) return tall(g);
  const TileTable& table = tiles();
  const auto one = [&](int64_t r, int64_t rows, int64_t c) {
    const int64_t cols = least(kPanel, g.cols - c);
    table.multiply[(cols + kLanes - 1) / kLanes][rows](g, g.a + r * g.a_stride, g.b + c * g.words, g.row + r, g.col + c, cols);
  };
  // Panels of this size stay in the second-level cache beside the rows; of these a tile of rows is in the first level.
  constexpr int64_t kCacheWords = 65536;
  const int64_t wide = kPanel * (kCacheWords / (kPanel * (g.words + 1)) + 1);
  const int64_t panels = (g.cols + kPanel - 1) / kPanel;
  const int64_t parts = (g.rows + kRowTile - 1) / kRowTile;  // the rows are dealt evenly to tiles
  for (int64_t begin = 0; begin < g.cols; begin += wide)
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t r = g.rows * part / parts, rows = g.rows * (part + 1) / parts - r, end = least(g.cols, begin + wide);
      int64_t c = begin;
      if (rows == 1)
        for (; c + kAlone * kPanel <= end; c += kAlone * kPanel) alone_tile(g, r, c);
      for (; c < end; c += kPanel) {
        look_below(g, r, rows, c / kPanel, panels);
        one(r, rows, c);
      }
    }
}

// The panels of b are dealt evenly to tiles of at most kSumVectors: a tile of one vector waits for its loads.
void sum(const GemmSum& g) {
  const TileTable& table = tiles();
  const int64_t panels = (g.cols + kLanes - 1) / kLanes, parts = (panels + kSumVectors - 1) / kSumVectors;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t p = panels * part / parts, vectors = panels * (part + 1) / parts - p;
    for (int64_t r = 0; r < g.rows; r += kSumRows)
      table.sum[vectors][least(kSumRows, g.rows - r)](g, g.a + r / kLanes * g.a_panel + r % kLanes, g.b + p * g.b_panel,
                                                      g.c + r * g.c_stride + p * kLanes);
  }
}

template <int R, int V>
void small_tile(const GemmBlock& g, const GemmSource& s, int64_t r, int64_t c, int64_t cols) {
  const float* a = g.a + r * g.a_stride;
  Vec acc[R][V];
  clear(acc);
  const bool whole = cols == V * kLanes;
  for (int64_t k = 0; k < g.words; ++k) {
    Vec factors[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      const int64_t at = c + j * kLanes, n = whole ? kLanes : least(kLanes, cols - j * kLanes);
      factors[j] = n > 0 ? source_words(s, k, at, n) : set(0.0f);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec factor = set(a[i * g.a_stride + k]);
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = multiply_add(factor, factors[j], acc[i][j]);
    }
  }
  finish_registers(g, acc, g.row + r, g.col + c, cols);
}

template <int R>
void small_rows(const GemmBlock& g, const GemmSource& s, int64_t r, int64_t rows) {
  if constexpr (R > 0) {
    if (rows != R) return small_rows<R - 1>(g, s, r, rows);
    constexpr int kWidth = R == 1 ? 2 * kSmallVectors : kSmallVectors;
    for (int64_t c = 0; c < g.cols; c += kWidth * kLanes) small_tile<R, kWidth>(g, s, r, c, least(kWidth * kLanes, g.cols - c));
  }
}

void small(const GemmBlock& g, const GemmSource& s) {
  for (int64_t r = 0; r < g.rows; r += kSmallRows) small_rows<kSmallRows>(g, s, r, least(kSmallRows, g.rows - r));
}

const GemmKernel kernel = {kGroup, kRowTile, kPanel, kLanes, 16, 2 * kSmallVectors * kLanes, pack, stage, multiply, small, pack_sum, pack_sum, sum};

}  // namespace
