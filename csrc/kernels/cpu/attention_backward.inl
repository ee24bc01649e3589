// Gradients of a chunk of rows against a block of keys. Part of attention_tiles.inl.

namespace {

using longer::cpu::BackwardRows;

void row_dots(const float* a, const float* b, int64_t rows, int64_t width, float* dots) {
  const int64_t cols = pad_to(width, kPad);
  for (int64_t r = 0; r < rows; ++r) dots[r] = dot_row(a + r * cols, b + r * cols, cols);
}

// p and ds of up to kRowTile rows from their scores (in s) and from do v (in dp). Words of ds, for the sum over keys, take the
// place of dp; words for the sum over rows go to p and ds.
template <class Words>
void slope_rows(const BackwardRows& x, int64_t first, int64_t rows, int64_t cols, const int32_t* visible, const float* s, float* dp,
                float* p, float* ds) {
  const Vec lanes = lane_numbers(), score_factor = set(x.score_factor), zero = set(0.0f);
  for (int64_t i = 0; i < rows; i += Words::kGroup)
    for (int64_t j = 0; j < cols; j += kLanes) {
      Vec e[Words::kGroup], d[Words::kGroup];
      for (int64_t g = 0; g < Words::kGroup; ++g) {
        const int64_t row = i + g;
        e[g] = d[g] = zero;
        if (row >= rows) continue;
        e[g] = exp2_vec(fma(load(s + row * kKeyBlock + j), score_factor, set(-x.lse[first + row])));
        d[g] = mul(e[g], sub(load(dp + row * kKeyBlock + j), set(x.delta[first + row])));
        if (j + kLanes > visible[row]) {
          const Vec key = add(lanes, set(static_cast<float>(j))), limit = set(static_cast<float>(visible[row]));
          e[g] = if_less(key, limit, e[g], zero);
          d[g] = if_less(key, limit, d[g], zero);
        }
        Words::put(dp + row * kKeyBlock, j, d[g]);
      }
      store(p + i / Words::kGroup * kKeyBlock + j, Words::join(e));
      store(ds + i / Words::kGroup * kKeyBlock + j, Words::join(d));
    }
}

template <class Words>
void backward_keys(const BackwardRows& x, const KeyTile& keys, int64_t count, const int32_t* visible, float* dk, float* dv) {
  const int64_t cols = pad_to(x.width, kPad), scored = pad_to(count, kLanes);
  const int64_t words = words_of<Words>(x.width), stride = pad_to(words, kPad);
  float* s = x.scores;
  float* dp = x.scores + kRowTile * kKeyBlock;
  int64_t first = x.rows, last = 0;  // rows that see any of the keys
  for (int64_t r = 0; r < x.rows; r += kRowTile) {
    const int64_t rows = x.rows - r < kRowTile ? x.rows - r : kRowTile;
    look_ahead(keys.ahead, r, x.rows);
    const int64_t most = span_of(visible + r, rows).most;
    float* p = x.p + r / Words::kGroup * kKeyBlock;
    float* ds = x.ds + r / Words::kGroup * kKeyBlock;
    if (most == 0) {
      clear(p, words_of<Words>(rows) * kKeyBlock);
      clear(ds, words_of<Words>(rows) * kKeyBlock);
      clear(x.dq + r * cols, rows * cols);
      continue;
    }
    if (r < first) first = r;
    last = r + rows;
    multiply_panel<Words, Start::zero>(rows, scored, {words, x.q_words + r * stride, stride, 1, keys.k_transposed, kKeyBlock, s, kKeyBlock,
                                                      nullptr});
    multiply_panel<Words, Start::zero>(rows, scored, {words, x.d_o_words + r * stride, stride, 1, keys.v_transposed, kKeyBlock, dp,
                                                      kKeyBlock, nullptr});
    slope_rows<Words>(x, r, rows, scored, visible + r, s, dp, p, ds);
    multiply_panel<Words, Start::zero>(rows, cols, {words_of<Words>(most), dp, kKeyBlock, 1, keys.k, cols, x.dq + r * cols, cols, nullptr});
  }
  if (first >= last) return;
  const int64_t seen = words_of<Words>(last - first), from = first / Words::kGroup;
  multiply<Words, Start::add>(count, cols, {seen, x.p + from * kKeyBlock, 1, kKeyBlock, x.d_o_summed + from * cols, cols, dv, cols, nullptr});
  multiply<Words, Start::add>(count, cols, {seen, x.ds + from * kKeyBlock, 1, kKeyBlock, x.q_summed + from * cols, cols, dk, cols, nullptr});
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
