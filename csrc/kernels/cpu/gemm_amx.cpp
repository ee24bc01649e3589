// Words of a pair of bf16 in the tile registers of AMX: one instruction adds 16 rows times 16 columns over 16 words.
//
// An element of a product is the sum of whole tiles of words, ascending, and then one chain over the words that are left.
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.inl"
#include "kernels/cpu/vec_values.inl"

namespace {
constexpr int64_t kVectors = 2, kPanel = kVectors * kLanes;
}

#include "kernels/cpu/gemm_pairs.inl"
#include "kernels/cpu/gemm_finish.inl"
#include "kernels/cpu/gemm_pack.inl"

namespace {

using longer::cpu::GemmKernel;
using longer::cpu::GemmSum;

constexpr int64_t kTile = 16, kTileWords = kTile * kTile;  // rows, words and columns of a tile
constexpr int64_t kRowTile = 2 * kTile;

// The intrinsics that read memory do not say so.
inline void written() { asm volatile("" ::: "memory"); }

// Tile registers of this thread: 0 to 3 are sums (rows, then columns), 4 and 5 rows, 6 and 7 columns.
class Tiles {
 public:
  Tiles() {
    static const Config config = [] {
      Config c = {};
      c.palette = 1;
      for (int i = 0; i < 8; ++i) c.rows[i] = kTile, c.row_bytes[i] = kLanes * 4;
      return c;
    }();
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;

 private:
  struct alignas(64) Config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

inline void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void multiply_tiles(bool lower) {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (!lower) return;
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

struct TileRows {
  const float* at;
  int64_t stride;
};

// `rows` rows of a tile: fewer than 16 are copied to where zeros stand below them.
inline TileRows whole_tile(const float* a, int64_t stride, int64_t rows, float* copy) {
  if (rows >= kTile) return {a, stride};
  for (int64_t r = 0; r < rows; ++r) store(copy + r * kTile, load(a + r * stride));
  written();
  return {copy, kTile};
}

// The sums of R rows and a panel, completed by the words that fill no tile.
template <int R>
inline void finish_rows(const GemmBlock& g, const float* sums, const float* a, const float* b, int64_t row, int64_t col, int64_t cols) {
  Vec acc[R][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) acc[i][j] = load(sums + i * kPanel + j * kLanes);
  for (int64_t k = 0; k < g.words % kTile; ++k)
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < kVectors; ++j)
        acc[i][j] = multiply_add(set(a[i * g.a_stride + k]), load(b + k * kPanel + j * kLanes), acc[i][j]);
  finish_registers(g, acc, row, col, cols);
}

// Up to kRowTile rows of g and the panel at column c; panel_at(k) has the panel's words from k on, as many as fill a tile.
template <class PanelAt>
void multiply_rows(const GemmBlock& g, int64_t row, int64_t rows, int64_t c, PanelAt panel_at) {
  const float* a = g.a + row * g.a_stride;
  const int64_t whole = g.words / kTile * kTile, below = rows - kTile;
  alignas(64) float sums[kRowTile * kPanel], copies[2][kTileWords];
  if (rows % kTile != 0) {
    float* copy = copies[rows > kTile];
    for (int64_t i = 0; i < kTileWords; i += kLanes) store(copy + i, set(0.0f));
  }
  await_finish(g, rows, g.row + row, g.col + c);
  clear_sums();
  for (int64_t k = 0; k < whole; k += kTile) {
    const float* b = panel_at(k);
    const TileRows upper = whole_tile(a + k, g.a_stride, rows, copies[0]);
    _tile_loadd(6, b, kPanel * 4);
    _tile_loadd(7, b + kLanes, kPanel * 4);
    _tile_loadd(4, upper.at, upper.stride * 4);
    if (below > 0) {
      const TileRows lower = whole_tile(a + kTile * g.a_stride + k, g.a_stride, below, copies[1]);
      _tile_loadd(5, lower.at, lower.stride * 4);
    }
    multiply_tiles(below > 0);
  }
  _tile_stored(0, sums, kPanel * 4);
  _tile_stored(1, sums + kLanes, kPanel * 4);
  if (below > 0) {
    _tile_stored(2, sums + kTile * kPanel, kPanel * 4);
    _tile_stored(3, sums + kTile * kPanel + kLanes, kPanel * 4);
  }
  const float* b = whole < g.words ? panel_at(whole) : nullptr;
  const int64_t cols = least(kPanel, g.cols - c);
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8) finish_rows<8>(g, sums + r * kPanel, a + r * g.a_stride + whole, b, g.row + row + r, g.col + c, cols);
  for (; r < rows; ++r) finish_rows<1>(g, sums + r * kPanel, a + r * g.a_stride + whole, b, g.row + row + r, g.col + c, cols);
}

void multiply(const GemmBlock& g) {
  const Tiles tiles;
  // Panels of this size stay in the second-level cache beside the rows.
  constexpr int64_t kCacheWords = 131072;
  const int64_t panels = (g.cols + kPanel - 1) / kPanel;
  const int64_t wide = kPanel * (kCacheWords / (kPanel * (g.words + 1)) + 1);
  for (int64_t begin = 0; begin < g.cols; begin += wide)
    for (int64_t r = 0; r < g.rows; r += kRowTile) {
      const int64_t rows = least(kRowTile, g.rows - r);
      for (int64_t c = begin; c < least(g.cols, begin + wide); c += kPanel) {
        look_below(g, r, rows, c / kPanel, panels);
        multiply_rows(g, r, rows, c, [&](int64_t k) { return g.b + c * g.words + k * kPanel; });
      }
    }
}

void small(const GemmBlock& g, const GemmSource& s) {
  const Tiles tiles;
  alignas(64) float panel[kTile * kPanel];
  for (int64_t c = 0; c < g.cols; c += kPanel)
    for (int64_t r = 0; r < g.rows; r += kRowTile)
      multiply_rows(g, r, least(kRowTile, g.rows - r), c, [&](int64_t k) {
        for (int64_t i = 0; i < kTile; ++i)
          for (int64_t j = 0; j < kPanel; j += kLanes) {
            const int64_t n = least(kLanes, g.cols - c - j);
            store(panel + i * kPanel + j, n > 0 && k + i < g.words ? source_words(s, k + i, c + j, n) : set(0.0f));
          }
        written();
        return panel;
      });
}

// As pack_sum, with zeros up to whole tiles of words.
void pack_right(Values from, int64_t stride, int64_t rows, int64_t cols, float* to, int64_t panel, float* sums) {
  pack_sum(from, stride, rows, cols, to, panel, sums);
  const int64_t words = words_of(rows);
  for (int64_t p = 0; p * kLanes < cols; ++p)
    for (int64_t k = words; k % kTile != 0; ++k) store(to + p * panel + k * kLanes, set(0.0f));
}

// Tiles whose rows are columns of the matrix.
void pack_left(Values from, int64_t stride, int64_t rows, int64_t cols, float* to, int64_t panel, float* sums) {
  pack_right(from, stride, rows, cols, to, panel, sums);
  for (int64_t p = 0; p * kLanes < cols; ++p)
    for (int64_t k = 0; k < words_of(rows); k += kTile) {
      float* tile = to + p * panel + k * kLanes;
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = load(tile + i * kLanes);
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(tile + i * kLanes, block[i]);
    }
}

// Two panels of a and two of b, where there are so many.
void sum_tiles(const GemmSum& g, const float* a, bool lower, const float* b, bool right, float* c) {
  const int64_t bytes = g.c_stride * 4, down = kTile * g.c_stride;
  clear_sums();
  if (!g.first) {
    _tile_loadd(0, c, bytes);
    if (right) _tile_loadd(1, c + kLanes, bytes);
    if (lower) _tile_loadd(2, c + down, bytes);
    if (lower && right) _tile_loadd(3, c + down + kLanes, bytes);
  }
  _tile_zero(7);
  for (int64_t k = 0; k < g.words; k += kTile) {
    _tile_loadd(4, a + k * g.a_step, kTile * 4);
    _tile_loadd(6, b + k * g.b_step, g.b_step * 4);
    if (lower) _tile_loadd(5, a + g.a_panel + k * g.a_step, kTile * 4);
    if (right) _tile_loadd(7, b + g.b_panel + k * g.b_step, g.b_step * 4);
    multiply_tiles(lower);
  }
  _tile_stored(0, c, bytes);
  if (right) _tile_stored(1, c + kLanes, bytes);
  if (lower) _tile_stored(2, c + down, bytes);
  if (lower && right) _tile_stored(3, c + down + kLanes, bytes);
}

void sum(const GemmSum& g) {
  const Tiles tiles;
  for (int64_t r = 0; r < g.rows; r += kRowTile)
    for (int64_t c = 0; c < g.cols; c += kPanel)
      sum_tiles(g, g.a + r / kLanes * g.a_panel, g.rows - r > kTile, g.b + c / kLanes * g.b_panel, g.cols - c > kLanes,
                g.c + r * g.c_stride + c);
}

const GemmKernel kernel = {kGroup, kRowTile, kPanel, kLanes, kTile, kPanel, pack, stage, multiply, small, pack_left, pack_right, sum};

}  // namespace

namespace longer::cpu {
const GemmKernel& gemm_amx() { return kernel; }
}  // namespace longer::cpu
