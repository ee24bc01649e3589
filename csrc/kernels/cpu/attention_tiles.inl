// The body of attention_tiles_<isa>.cpp. The including file defines, in an unnamed namespace, the type Vec with
// kLanes lanes, kMaxVectors (accumulators a row that fit the registers) and the functions used below.

namespace {

using longer::cpu::BackwardRows;
using longer::cpu::ForwardRows;
using longer::cpu::KeyTile;
using longer::cpu::kKeyBlock;
using longer::cpu::kPad;
using longer::cpu::kRowTile;

// 0 below 2^-126, else within 2 ulp; NaN stays NaN; exactly 1 at 0.
inline Vec exp2_vec(Vec t) {
  const Vec lowest = set(-126.0f);
  const Vec x = vmax(lowest, vmin(set(127.0f), t));
  const Vec n = round_even(x);
  const Vec f = sub(x, n);
  Vec y = set(1.535336188319500e-4f);
  y = fma(y, f, set(1.339887440266574e-3f));
  y = fma(y, f, set(9.618437357674640e-3f));
  y = fma(y, f, set(5.550332471162809e-2f));
  y = fma(y, f, set(2.402264791363012e-1f));
  y = fma(y, f, set(6.931472028550421e-1f));
  y = fma(y, f, set(1.0f));
  return if_less(t, lowest, set(0.0f), times_pow2(y, n));
}

inline float exp2_one(float t) {
  float lanes[kLanes];
  store(lanes, exp2_vec(set(t)));
  return lanes[0];
}

inline int64_t pad_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c[M x N vectors] = start + a b, the sum over k ascending. Start is zero, c, or c times a factor a row.
enum class Start { zero, add, scaled };

struct Operands {
  int64_t inner;
  const float* a;
  int64_t a_row, a_inner;
  const float* b;
  int64_t b_stride;
  float* c;
  int64_t c_stride;
  const float* factor;
};

// Skip: a factor of exactly zero leaves c alone even where b is not finite.
template <int M, int N, Start start, bool Skip>
void multiply_tile(const Operands& x) {
  Vec acc[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      if (start == Start::zero) acc[i][j] = set(0.0f);
      if (start == Start::add) acc[i][j] = load(x.c + i * x.c_stride + j * kLanes);
      if (start == Start::scaled) acc[i][j] = mul(load(x.c + i * x.c_stride + j * kLanes), set(x.factor[i]));
    }
  const float* a = x.a;
  const float* b = x.b;
  for (int64_t k = 0; k < x.inner; ++k, a += x.a_inner, b += x.b_stride) {
    Vec row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = load(b + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const Vec factor = set(a[i * x.a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j)
        acc[i][j] = fma(factor, Skip ? zero_where_zero(factor, row[j]) : row[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) store(x.c + i * x.c_stride + j * kLanes, acc[i][j]);
}

template <int N, Start start, bool Skip>
void multiply_rows(int64_t rows, const Operands& x) {
  switch (rows) {
    case 1: return multiply_tile<1, N, start, Skip>(x);
    case 2: return multiply_tile<2, N, start, Skip>(x);
    case 3: return multiply_tile<3, N, start, Skip>(x);
    case 4: return multiply_tile<4, N, start, Skip>(x);
    case 5: return multiply_tile<5, N, start, Skip>(x);
    default: return multiply_tile<6, N, start, Skip>(x);
  }
}

// rows <= kRowTile; cols a multiple of kLanes
template <Start start, bool Skip = false>
void multiply_panel(int64_t rows, int64_t cols, Operands x) {
  constexpr int64_t step = kMaxVectors * kLanes;
  for (; cols >= step; cols -= step, x.b += step, x.c += step) multiply_rows<kMaxVectors, start, Skip>(rows, x);
  for (; cols >= 2 * kLanes && kMaxVectors > 2; cols -= 2 * kLanes, x.b += 2 * kLanes, x.c += 2 * kLanes)
    multiply_rows<2, start, Skip>(rows, x);
  for (; cols >= kLanes; cols -= kLanes, x.b += kLanes, x.c += kLanes) multiply_rows<1, start, Skip>(rows, x);
}

template <Start start>
void multiply(int64_t rows, int64_t cols, Operands x) {
  // a tile one vector wide needs more rows to keep the multipliers busy
  for (; cols == kLanes && rows >= 8; rows -= 8, x.a += 8 * x.a_row, x.c += 8 * x.c_stride) multiply_tile<8, 1, start, false>(x);
  while (rows > 0) {
    // the last two tiles share what is left evenly: a tile of one or two rows waits for its own sums
    const int64_t tile = rows >= 2 * kRowTile || rows == kRowTile ? kRowTile : rows > kRowTile ? (rows + 1) / 2 : rows;
    multiply_panel<start>(tile, cols, x);
    rows -= tile;
    x.a += tile * x.a_row;
    x.c += tile * x.c_stride;
  }
}

inline Vec lane_numbers() {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(i);
  return load(lanes);
}

inline float dot_row(const float* a, const float* b, int64_t cols) {
  Vec sum = mul(load(a), load(b));
  for (int64_t i = kLanes; i < cols; i += kLanes) sum = fma(load(a + i), load(b + i), sum);
  return sum_lanes(sum);
}

inline void add_row(float factor, const float* x, float* y, int64_t cols) {
  const Vec f = set(factor);
  for (int64_t i = 0; i < cols; i += kLanes) store(y + i, fma(f, load(x + i), load(y + i)));
}

inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  __builtin_memcpy(&y, &bits, 4);
  return y;
}

inline uint16_t narrow(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

void pack(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float factor, float* dst) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, dst += cols) {
    if (is_bf16) {
      const uint16_t* from = static_cast<const uint16_t*>(src) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, mul(factors, load_bf16(from + i)));
      for (int64_t i = whole; i < width; ++i) dst[i] = factor * widen(from[i]);
    } else {
      const float* from = static_cast<const float*>(src) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, mul(factors, load(from + i)));
      for (int64_t i = whole; i < width; ++i) dst[i] = factor * from[i];
    }
    for (int64_t i = width; i < cols; ++i) dst[i] = 0;
  }
  const int64_t blank = (pad_to(rows, kPad) - rows) * cols;
  for (int64_t i = 0; i < blank; i += kLanes) store(dst + i, set(0.0f));
}

void unpack(const float* src, float factor, void* dst, bool is_bf16, int64_t stride, int64_t rows, int64_t width) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, src += cols) {
    if (is_bf16) {
      uint16_t* to = static_cast<uint16_t*>(dst) + r * stride;
      for (int64_t i = 0; i < width; ++i) to[i] = narrow(factor * src[i]);
    } else {
      float* to = static_cast<float*>(dst) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(to + i, mul(factors, load(src + i)));
      for (int64_t i = whole; i < width; ++i) to[i] = factor * src[i];
    }
  }
}

void unpack_add(const float* src, float factor, float* dst, int64_t stride, int64_t rows, int64_t width) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, src += cols, dst += stride) {
    for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, add(load(dst + i), mul(factors, load(src + i))));
    for (int64_t i = whole; i < width; ++i) dst[i] += factor * src[i];
  }
}

void transpose(const float* src, int64_t src_stride, int64_t rows, int64_t width, float* dst, int64_t dst_stride) {
  const int64_t cols = pad_to(width, kPad);
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t i = 0; i < cols; i += kLanes) transpose_square(src + r * src_stride + i, src_stride, dst + i * dst_stride + r, dst_stride);
}

void forward_start(const ForwardRows& x) {
  const int64_t cols = pad_to(x.width, kPad);
  for (int64_t i = 0; i < x.rows * cols; ++i) x.o[i] = 0;
  for (int64_t i = 0; i < x.rows * kPad; ++i) x.sum[i] = 0;
  for (int64_t r = 0; r < x.rows; ++r) x.top[r] = -__builtin_inff();
}

struct Span {
  int64_t least, most;
};

inline Span span_of(const int32_t* visible, int64_t rows) {
  Span s = {visible[0], visible[0]};
  for (int64_t r = 1; r < rows; ++r) {
    if (visible[r] < s.least) s.least = visible[r];
    if (visible[r] > s.most) s.most = visible[r];
  }
  return s;
}

// Masks the scores of a row and returns their maximum.
inline float mask_row(float* p, int64_t cols, int64_t visible, Vec lanes) {
  const Vec limit = set(static_cast<float>(visible)), hidden = set(-__builtin_inff());
  Vec most = hidden;
  for (int64_t j = 0; j < cols; j += kLanes) {
    Vec s = load(p + j);
    if (j + kLanes > visible) {
      s = if_less(add(lanes, set(static_cast<float>(j))), limit, s, hidden);
      store(p + j, s);
    }
    most = vmax(most, s);
  }
  return max_lanes(most);
}

// Turns the scores of up to kRowTile rows into p in place; factor[i] is for what row i had summed before.
inline void softmax_rows(int64_t rows, float* p, int64_t cols, const int32_t* visible, float* top, float* sum, float* factor) {
  const Vec lanes = lane_numbers();
  float base[kPad] = {};
  for (int64_t i = 0; i < kPad; ++i) factor[i] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const float before = top[i], block = mask_row(p + i * kKeyBlock, cols, visible[i], lanes);
    top[i] = block > before ? block : before;
    base[i] = top[i] == -__builtin_inff() ? 0.0f : top[i];
    factor[i] = before - base[i];
  }
  for (int64_t i = 0; i < rows; i += kLanes) store(factor + i, exp2_vec(load(factor + i)));
  for (int64_t i = 0; i < rows; ++i) {
    const Vec shift = set(base[i]);
    Vec total = mul(load(sum + i * kPad), set(factor[i]));
    for (int64_t j = 0; j < cols; j += kLanes) {
      float* at = p + i * kKeyBlock + j;
      const Vec e = exp2_vec(sub(load(at), shift));
      total = add(total, e);
      store(at, e);
    }
    store(sum + i * kPad, total);
  }
}

void forward_keys(const ForwardRows& x, const KeyTile& keys, const int32_t* visible) {
  const int64_t cols = pad_to(x.width, kPad);
  for (int64_t r = 0; r < x.rows; r += kRowTile) {
    const int64_t rows = x.rows - r < kRowTile ? x.rows - r : kRowTile;
    const Span span = span_of(visible + r, rows);
    if (span.most == 0) continue;
    const int64_t scored = pad_to(span.most, kLanes);
    multiply_panel<Start::zero>(rows, scored,
                                {x.width, x.q + r * cols, cols, 1, keys.k_transposed, kKeyBlock, x.p, kKeyBlock, nullptr});
    float factor[kPad];
    softmax_rows(rows, x.p, scored, visible + r, x.top + r, x.sum + r * kPad, factor);
    float* o = x.o + r * cols;
    multiply_panel<Start::scaled>(rows, cols, {span.least, x.p, kKeyBlock, 1, keys.v, keys.v_stride, o, cols, factor});
    if (span.most > span.least)
      multiply_panel<Start::add, true>(rows, cols, {span.most - span.least, x.p + span.least, kKeyBlock, 1,
                                                    keys.v + span.least * keys.v_stride, keys.v_stride, o, cols, nullptr});
  }
}

void forward_own(const ForwardRows& x, int64_t rows_each, const float* own_k, const float* own_v) {
  const int64_t cols = pad_to(x.width, kPad);
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t t = r / rows_each * rows_each; t <= r; ++t) {
      const float s = dot_row(x.q + r * cols, own_k + t * cols, cols);
      const float before = x.top[r], after = s > before ? s : before;
      const float base = after == -__builtin_inff() ? 0.0f : after;
      x.top[r] = after;
      const float factor = exp2_one(before - base), p = exp2_one(s - base);
      float* sum = x.sum + r * kPad;
      store(sum, mul(load(sum), set(factor)));
      sum[0] += p;
      float* o = x.o + r * cols;
      const Vec scale = set(factor), weight = set(p);
      for (int64_t i = 0; i < cols; i += kLanes)
        store(o + i, fma(weight, load(own_v + t * cols + i), mul(load(o + i), scale)));
    }
}

void forward_finish(const ForwardRows& x, float* lse, int64_t lse_stride) {
  const int64_t cols = pad_to(x.width, kPad);
  for (int64_t r = 0; r < x.rows; ++r) {
    const float total = sum_lanes(load(x.sum + r * kPad));
    const bool blind = total == 0.0f;
    if (lse) lse[r * lse_stride] = blind ? -__builtin_inff() : 0.69314718055994531f * x.top[r] + __builtin_logf(total);
    const Vec factor = set(blind ? 0.0f : 1.0f / total);
    float* o = x.o + r * cols;
    for (int64_t i = 0; i < cols; i += kLanes) store(o + i, mul(load(o + i), factor));
  }
}

void row_dots(const float* a, const float* b, int64_t rows, int64_t width, float* dots) {
  const int64_t cols = pad_to(width, kPad);
  for (int64_t r = 0; r < rows; ++r) dots[r] = dot_row(a + r * cols, b + r * cols, cols);
}

void backward_keys(const BackwardRows& x, const KeyTile& keys, int64_t count, const int32_t* visible, float* dk, float* dv) {
  const int64_t cols = pad_to(x.width, kPad), scored = pad_to(count, kLanes);
  const Vec lanes = lane_numbers();
  int64_t first = x.rows, last = 0;  // rows that see any of the keys
  for (int64_t r = 0; r < x.rows; r += kRowTile) {
    const int64_t rows = x.rows - r < kRowTile ? x.rows - r : kRowTile;
    const int64_t most = span_of(visible + r, rows).most;
    float* p = x.p + r * kKeyBlock;
    float* ds = x.ds + r * kKeyBlock;
    if (most == 0) {
      for (int64_t i = 0; i < rows * kKeyBlock; ++i) p[i] = ds[i] = 0;
      for (int64_t i = 0; i < rows * cols; ++i) x.dq[r * cols + i] = 0;
      continue;
    }
    if (r < first) first = r;
    last = r + rows;
    multiply_panel<Start::zero>(rows, scored,
                                {x.width, x.q + r * cols, cols, 1, keys.k_transposed, kKeyBlock, p, kKeyBlock, nullptr});
    multiply_panel<Start::zero>(rows, scored,
                                {x.width, x.d_o + r * cols, cols, 1, keys.v_transposed, kKeyBlock, ds, kKeyBlock, nullptr});
    for (int64_t i = 0; i < rows; ++i) {
      const Vec limit = set(static_cast<float>(visible[r + i])), zero = set(0.0f);
      const Vec lse = set(x.lse[r + i]), delta = set(x.delta[r + i]);
      for (int64_t j = 0; j < scored; j += kLanes) {
        float* pj = p + i * kKeyBlock + j;
        float* dj = ds + i * kKeyBlock + j;
        Vec e = exp2_vec(sub(load(pj), lse));
        Vec d = mul(e, sub(load(dj), delta));
        if (j + kLanes > visible[r + i]) {
          const Vec key = add(lanes, set(static_cast<float>(j)));
          e = if_less(key, limit, e, zero);
          d = if_less(key, limit, d, zero);
        }
        store(pj, e);
        store(dj, d);
      }
    }
    multiply_panel<Start::zero>(rows, cols, {most, ds, kKeyBlock, 1, keys.k, cols, x.dq + r * cols, cols, nullptr});
  }
  if (first >= last) return;
  const int64_t seen = last - first;
  multiply<Start::add>(count, cols, {seen, x.p + first * kKeyBlock, 1, kKeyBlock, x.d_o + first * cols, cols, dv, cols, nullptr});
  multiply<Start::add>(count, cols, {seen, x.ds + first * kKeyBlock, 1, kKeyBlock, x.q + first * cols, cols, dk, cols, nullptr});
}

void backward_own(const BackwardRows& x, int64_t rows_each, const float* own_k, const float* own_v, float* own_dk, float* own_dv) {
  const int64_t cols = pad_to(x.width, kPad);
  for (int64_t i = 0; i < x.rows * cols; ++i) x.dq[i] = own_dk[i] = own_dv[i] = 0;
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t t = r / rows_each * rows_each; t <= r; ++t) {
      const float p = exp2_one(dot_row(x.q + r * cols, own_k + t * cols, cols) - x.lse[r]);
      const float ds = p * (dot_row(x.d_o + r * cols, own_v + t * cols, cols) - x.delta[r]);
      add_row(ds, own_k + t * cols, x.dq + r * cols, cols);
      add_row(ds, x.q + r * cols, own_dk + t * cols, cols);
      add_row(p, x.d_o + r * cols, own_dv + t * cols, cols);
    }
}

}  // namespace

#include "kernels/cpu/group_tiles.inl"

namespace {

const longer::cpu::AttentionTiles tiles = {
    pack,         unpack,         unpack_add, transpose,     forward_start, forward_keys,
    forward_own,  forward_finish, row_dots,   backward_keys, backward_own,   group_forward,
    group_backward,
};

}  // namespace
