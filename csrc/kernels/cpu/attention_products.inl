// exp2 and the matrix products of attention. Part of attention_tiles.inl.
//
// Operands are read as words of 4 bytes, a float or a pair of bf16 that are neighbours in the reduction. A class names the
// kind of word: kGroup elements in it; multiply_add(a, b, sum); unless_zero(a, b), b with zeros where a has them;
// put(row, at, x), elements from `at` on into a row of words; join(x), words of kGroup rows; and how rows are packed.

namespace {

struct Singles {
  static constexpr int64_t kGroup = 1;
  static Vec multiply_add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
  static Vec unless_zero(Vec a, Vec b) { return zero_where_zero(a, b); }
  static void put(float* row, int64_t at, Vec x) { store(row + at, x); }
  static Vec join(const Vec (&x)[1]) { return x[0]; }
  static void pack_words(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float* dst) {
    pack(src, is_bf16, stride, rows, width, 1.0f, dst);
  }
  static void pack_summed(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float* dst) {
    pack(src, is_bf16, stride, rows, width, 1.0f, dst);
  }
};

template <class Words>
inline int64_t words_of(int64_t elements) { return (elements + Words::kGroup - 1) / Words::kGroup; }

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

// c[M x N vectors] = start + a b, the sum over words ascending. Start is zero, c, or c times a factor a row.
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

// Skip: an element of a that is exactly zero leaves c alone even where b is not finite.
template <class Words, int M, int N, Start start, bool Skip>
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
        acc[i][j] = Words::multiply_add(factor, Skip ? Words::unless_zero(factor, row[j]) : row[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) store(x.c + i * x.c_stride + j * kLanes, acc[i][j]);
}

template <class Words, int N, Start start, bool Skip>
void multiply_rows(int64_t rows, const Operands& x) {
  switch (rows) {
    case 1: return multiply_tile<Words, 1, N, start, Skip>(x);
    case 2: return multiply_tile<Words, 2, N, start, Skip>(x);
    case 3: return multiply_tile<Words, 3, N, start, Skip>(x);
    case 4: return multiply_tile<Words, 4, N, start, Skip>(x);
    case 5: return multiply_tile<Words, 5, N, start, Skip>(x);
    default: return multiply_tile<Words, 6, N, start, Skip>(x);
  }
}

// rows <= kRowTile; cols a multiple of kLanes
template <class Words, Start start, bool Skip = false>
void multiply_panel(int64_t rows, int64_t cols, Operands x) {
  constexpr int64_t step = kMaxVectors * kLanes;
  for (; cols >= step; cols -= step, x.b += step, x.c += step) multiply_rows<Words, kMaxVectors, start, Skip>(rows, x);
  for (; cols >= 2 * kLanes && kMaxVectors > 2; cols -= 2 * kLanes, x.b += 2 * kLanes, x.c += 2 * kLanes)
    multiply_rows<Words, 2, start, Skip>(rows, x);
  for (; cols >= kLanes; cols -= kLanes, x.b += kLanes, x.c += kLanes) multiply_rows<Words, 1, start, Skip>(rows, x);
}

template <class Words, Start start>
void multiply(int64_t rows, int64_t cols, Operands x) {
  // a tile one vector wide needs more rows to keep the multipliers busy
  for (; cols == kLanes && rows >= 8; rows -= 8, x.a += 8 * x.a_row, x.c += 8 * x.c_stride) multiply_tile<Words, 8, 1, start, false>(x);
  while (rows > 0) {
    // the last two tiles share what is left evenly: a tile of one or two rows waits for its own sums
    const int64_t tile = rows >= 2 * kRowTile || rows == kRowTile ? kRowTile : rows > kRowTile ? (rows + 1) / 2 : rows;
    multiply_panel<Words, start>(tile, cols, x);
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

}  // namespace
