// gemm.inl for words of one f32.

namespace {

constexpr int64_t kGroup = 1;

inline Vec multiply_add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }

inline void put_words(const longer::cpu::GemmSource& s, int64_t k, int64_t c, int64_t cols, float* to) {
  if (s.transposed) {
    if (s.from.is_bf16) {
      for (int64_t i = 0; i < cols; ++i) store_part(to + i, get(s.from, (c + i) * s.stride + k, 1), 1);
    } else if (s.rounded) {
      for (int64_t i = 0; i < cols; ++i) store_part(to + i, rounded_bf16(get(s.from, (c + i) * s.stride + k, 1)), 1);
    } else {
      const float* from = static_cast<const float*>(s.from.data) + c * s.stride + k;
      for (int64_t i = 0; i < cols; ++i) to[i] = from[i * s.stride];
    }
    return;
  }
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t n = lanes_left(i, cols);
    Vec words = get(s.from, k * s.stride + c + i, n);
    if (s.rounded) words = rounded_bf16(words);
    if (k + 1 < s.inner) store(to + i, words); else store_n(to + i, words, n);  // what runs over is written later
  }
}

void stage(Values from, int64_t from_stride, int64_t rows, int64_t inner, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < inner; k += kLanes) {
      const int64_t n = lanes_left(k, inner);
      put({to, false}, r * to_stride + k, get(from, r * from_stride + k, n), n);
    }
}

}  // namespace

#include "kernels/cpu/gemm.inl"

namespace {

template <int R, int V>
void small_tile(const GemmBlock& g, int64_t r, int64_t c, int64_t cols) {
  const float* a = g.a + r * g.a_stride;
  const float* b = g.b + c;
  Vec acc[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = set(0.0f);
  if (cols == V * kLanes) {
    accumulate<R, V, false>(acc, a, g.a_stride, 1, b, g.b_stride, g.words);
  } else {
    for (int64_t k = 0; k < g.words; ++k, b += g.b_stride)
      for (int j = 0; j * kLanes < cols; ++j) {
        const Vec row = load_n(b + j * kLanes, lanes_left(j * kLanes, cols));
        for (int i = 0; i < R; ++i) acc[i][j] = multiply_add(set(a[i * g.a_stride + k]), row, acc[i][j]);
      }
  }
  finish_registers(g, acc, g.row + r, g.col + c, cols);
}

template <int R>
void small_rows(const GemmBlock& g, int64_t r, int64_t rows) {
  if constexpr (R > 0) {
    if (rows != R) return small_rows<R - 1>(g, r, rows);
    constexpr int64_t kWide = kSmallVectors * kLanes;
    for (int64_t c = 0; c < g.cols; c += kWide) small_tile<R, kSmallVectors>(g, r, c, least(kWide, g.cols - c));
  }
}

void small(const GemmBlock& g) {
  for (int64_t r = 0; r < g.rows; r += kSmallRows) small_rows<kSmallRows>(g, r, least(kSmallRows, g.rows - r));
}

const GemmKernel kernel = {kGroup, kRowTile, kPanel, 16, pack, stage, multiply, small, sum, add_rows};

}  // namespace
