// Words of one f32, for gemm.inl.

namespace {

constexpr int64_t kGroup = 1;

inline Vec multiply_add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
inline Vec add_words(Vec sum, Vec words) { return add(sum, words); }

inline Vec words_across(Values from, bool rounded, int64_t at, int64_t, bool, int64_t n) {
  const Vec words = get(from, at, n);
  return rounded && !from.is_bf16 ? rounded_bf16(words) : words;
}

inline Vec words_along(Values from, bool rounded, int64_t at, int64_t n) { return words_across(from, rounded, at, 0, true, n); }

}  // namespace
