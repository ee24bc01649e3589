// Scores, softmax and the sum over keys, rows of a chunk against a block of keys. Part of attention_tiles.inl.

namespace {

using longer::cpu::ForwardRows;
using longer::cpu::KeyTile;

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

// Turns the scores of up to kRowTile rows into words of p in place; rescale[i] is for what row i had summed before.
template <class Words>
void softmax_rows(int64_t rows, float* p, int64_t cols, const int32_t* visible, float score_factor, float* top, float* sum,
                  float* rescale) {
  const Vec lanes = lane_numbers(), score_factors = set(score_factor);
  float base[kPad] = {};
  for (int64_t i = 0; i < kPad; ++i) rescale[i] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const float before = top[i], block = score_factor * mask_row(p + i * kKeyBlock, cols, visible[i], lanes);
    top[i] = block > before ? block : before;
    base[i] = top[i] == -__builtin_inff() ? 0.0f : top[i];
    rescale[i] = before - base[i];
  }
  for (int64_t i = 0; i < rows; i += kLanes) store(rescale + i, exp2_vec(load(rescale + i)));
  for (int64_t i = 0; i < rows; ++i) {
    float* row = p + i * kKeyBlock;
    const Vec shift = set(-base[i]);
    Vec total = mul(load(sum + i * kPad), set(rescale[i]));
    for (int64_t j = 0; j < cols; j += kLanes) {
      const Vec e = exp2_vec(fma(load(row + j), score_factors, shift));
      total = add(total, e);
      Words::put(row, j, e);
    }
    store(sum + i * kPad, total);
  }
}

template <class Words>
void forward_keys(const ForwardRows& x, const KeyTile& keys, const int32_t* visible) {
  const int64_t cols = pad_to(x.width, kPad), words = words_of<Words>(x.width), q_stride = pad_to(words, kPad);
  for (int64_t r = 0; r < x.rows; r += kRowTile) {
    const int64_t rows = x.rows - r < kRowTile ? x.rows - r : kRowTile;
    look_ahead(keys.ahead, r, x.rows);
    const Span span = span_of(visible + r, rows);
    if (span.most == 0) continue;
    const int64_t scored = pad_to(span.most, kLanes);
    multiply_panel<Words, Start::zero>(rows, scored, {words, x.q_words + r * q_stride, q_stride, 1, keys.k_transposed, kKeyBlock, x.p,
                                                      kKeyBlock, nullptr});
    float rescale[kPad];
    softmax_rows<Words>(rows, x.p, scored, visible + r, x.score_factor, x.top + r, x.sum + r * kPad, rescale);
    float* o = x.o + r * cols;
    const int64_t least = span.least / Words::kGroup, most = words_of<Words>(span.most);
    multiply_panel<Words, Start::scaled>(rows, cols, {least, x.p, kKeyBlock, 1, keys.v, keys.v_stride, o, cols, rescale});
    if (most > least)
      multiply_panel<Words, Start::add, true>(rows, cols, {most - least, x.p + least, kKeyBlock, 1, keys.v + least * keys.v_stride,
                                                           keys.v_stride, o, cols, nullptr});
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

}  // namespace
