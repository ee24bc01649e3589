// Operands brought into the order in which the tiles read them. Part of gemm.inl.

namespace {

using longer::cpu::GemmSource;

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
// Part `step` of `steps` of the rows of a product below [row, row + rows), which are read next: brought into the second-level
// cache if the matrices are too large for it.
inline void look_below(const GemmBlock& g, int64_t row, int64_t rows, int64_t step, int64_t steps) {
  if (!g.far) return;
  constexpr int64_t kLineWords = 16;
  for (int64_t r = row + rows + rows * step / steps, end = row + rows + rows * (step + 1) / steps; r < end; ++r)
    for (int64_t k = 0; k < g.words; k += kLineWords) __builtin_prefetch(g.a + r * g.a_stride + k, 0, 2);
}

inline int64_t words_of(int64_t elements) { return (elements + kGroup - 1) / kGroup; }

// Word k of n columns from c on, where these lie side by side.
inline Vec source_words(const GemmSource& s, int64_t k, int64_t c, int64_t n) {
  return words_across(s.from, s.rounded, kGroup * k * s.stride + c, s.stride, kGroup * k + kGroup <= s.inner, n);
}

void pack(const GemmSource& s, float* panels) {
  const int64_t words = words_of(s.inner);
  for (int64_t panel = 0; panel < s.cols; panel += kPanel)
    for (int64_t part = 0; part < kPanel; part += kLanes) {
      float* to = panels + panel * words + part;
      const int64_t c = panel + part, cols = least(kLanes, s.cols - c);
      if (cols <= 0) {
        for (int64_t k = 0; k < words; ++k) store(to + k * kPanel, set(0.0f));
      } else if (!s.transposed) {
        for (int64_t k = 0; k < words; ++k) store(to + k * kPanel, source_words(s, k, c, cols));
      } else {
        for (int64_t k = 0; k < words; k += kLanes) {
          const int64_t inner = least(kLanes * kGroup, s.inner - k * kGroup);
          Vec block[kLanes];
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i)
            block[i] = i < cols ? words_along(s.from, s.rounded, (c + i) * s.stride + k * kGroup, inner) : set(0.0f);
          transpose(block);
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i)
            if (k + i < words) store(to + (k + i) * kPanel, block[i]);
        }
      }
    }
}

void stage(Values from, int64_t from_stride, int64_t rows, int64_t inner, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < inner; k += kLanes * kGroup)
      store(to + r * to_stride + k / kGroup, words_along(from, false, r * from_stride + k, least(kLanes * kGroup, inner - k)));
}

// P panels side by side: as many streams to write.
template <int P>
void pack_panels(Values from, int64_t stride, int64_t rows, int64_t last, float* to, int64_t panel, float* sums) {
  Vec total[P];
  for (int p = 0; p < P; ++p) total[p] = sums ? load(sums + p * kLanes) : set(0.0f);
  for (int64_t r = 0; r < rows; r += kGroup, to += kLanes)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Vec words = words_across(from, false, r * stride + p * kLanes, stride, r + kGroup <= rows, p + 1 < P ? kLanes : last);
      store(to + p * panel, words);
      total[p] = add_words(total[p], words);
    }
  for (int p = 0; sums && p < P; ++p) store(sums + p * kLanes, total[p]);
}

void pack_sum(Values from, int64_t stride, int64_t rows, int64_t cols, float* to, int64_t panel, float* sums) {
  constexpr int64_t kWide = 4 * kLanes;
  for (int64_t c = 0; c < cols; c += kWide) {
    Values at = from;
    at.data = static_cast<char*>(from.data) + c * (from.is_bf16 ? 2 : 4);
    const int64_t left = least(kWide, cols - c), panels = (left + kLanes - 1) / kLanes, last = left - (panels - 1) * kLanes;
    const auto run = [&](auto pack_some) {
      pack_some(at, stride, rows, last, to + c / kLanes * panel, panel, sums ? sums + c : nullptr);
    };
    if (panels == 4) run(pack_panels<4>); else if (panels == 3) run(pack_panels<3>);
    else if (panels == 2) run(pack_panels<2>); else run(pack_panels<1>);
  }
}

}  // namespace
