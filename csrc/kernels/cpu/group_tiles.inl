// One head of one group of events, in the first level of the cache. Part of attention_tiles.inl.

namespace {

using longer::cpu::GroupTile;

// The rows of a group with a stride: where they stand if whole vectors can be read there, else a copy.
struct GroupRows {
  const float* at;
  int64_t stride;
};

struct Group {
  bool direct;
  int64_t cols, block, across;  // across: stride of the scores
  GroupRows q, k, v;
  float* turned;
  float *p, *ds;
};

inline GroupRows group_rows(const GroupTile& x, bool direct, const float* rows, float* copy) {
  if (direct) return {rows, x.stride};
  pack(rows, false, x.stride, x.events, x.width, 1.0f, copy);
  return {copy, pad_to(x.width, kPad)};
}

// Transposed, with zeros up to a whole number of vectors.
inline void turn_group(const GroupTile& x, const Group& g, const GroupRows& rows) {
  const int64_t whole = x.events / kLanes * kLanes;
  for (int64_t r = 0; r < whole; r += kLanes)
    for (int64_t i = 0; i < g.cols; i += kLanes)
      transpose_square(rows.at + r * rows.stride + i, rows.stride, g.turned + i * g.across + r, g.across);
  if (whole == x.events) return;
  float square[kLanes * kLanes];
  for (int64_t i = 0; i < g.cols; i += kLanes) {
    for (int64_t r = 0; r < kLanes; ++r)
      store(square + r * kLanes, whole + r < x.events ? load(rows.at + (whole + r) * rows.stride + i) : set(0.0f));
    transpose_square(square, kLanes, g.turned + i * g.across + whole, g.across);
  }
}

inline Group open_group(const GroupTile& x) {
  Group g;
  g.direct = x.width % kPad == 0;
  g.cols = pad_to(x.width, kPad);
  g.across = pad_to(x.events, kPad);
  g.block = g.across * g.cols;
  g.turned = x.scratch;
  g.p = g.turned + g.block;
  g.ds = g.p + g.across * g.across;
  float* copies = g.ds + g.across * g.across;
  g.q = group_rows(x, g.direct, x.q, copies);
  g.k = group_rows(x, g.direct, x.k, copies + g.block);
  g.v = group_rows(x, g.direct, x.v, copies + 2 * g.block);
  turn_group(x, g, g.k);
  const int64_t scored = pad_to(x.events, kLanes);
  multiply<Singles, Start::zero>(x.events, scored, {x.width, g.q.at, g.q.stride, 1, g.turned, g.across, g.p, g.across, nullptr});
  const Vec lanes = lane_numbers(), limit = set(static_cast<float>(x.events));
  const Vec factor = set(x.scale * 1.4426950408889634f), hidden = set(-__builtin_inff());
  for (int64_t i = 0; i < x.events; ++i) {
    float* p = g.p + i * g.across;
    Vec most = hidden, sum = set(0.0f);
    for (int64_t j = 0; j < scored; j += kLanes) {
      const Vec s = if_less(add(lanes, set(static_cast<float>(j))), limit, mul(load(p + j), factor), hidden);
      store(p + j, s);
      most = vmax(most, s);
    }
    const Vec top = set(max_lanes(most));
    for (int64_t j = 0; j < scored; j += kLanes) {
      const Vec e = exp2_vec(sub(load(p + j), top));
      store(p + j, e);
      sum = add(sum, e);
    }
    const Vec share = set(1.0f / sum_lanes(sum));
    for (int64_t j = 0; j < scored; j += kLanes) store(p + j, mul(load(p + j), share));
  }
  return g;
}

// out = a b, where a is p or ds (or, with the strides exchanged, its transpose)
inline void close_group(const GroupTile& x, const Group& g, const float* a, int64_t a_row, int64_t a_inner, const GroupRows& b,
                        float* out) {
  float* copy = x.scratch + g.block + 2 * g.across * g.across + 4 * g.block;
  float* at = g.direct ? out : copy;
  const int64_t stride = g.direct ? x.stride : g.cols;
  multiply<Singles, Start::zero>(x.events, g.cols, {x.events, a, a_row, a_inner, b.at, b.stride, at, stride, nullptr});
  if (!g.direct) unpack(copy, 1.0f, out, false, x.stride, x.events, x.width);
}

void group_forward(const GroupTile& x) {
  const Group g = open_group(x);
  close_group(x, g, g.p, g.across, 1, g.v, x.o);
}

void group_backward(const GroupTile& x) {
  const Group g = open_group(x);
  const int64_t scored = pad_to(x.events, kLanes);
  const GroupRows d_o = group_rows(x, g.direct, x.d_o, x.scratch + g.block + 2 * g.across * g.across + 3 * g.block);
  turn_group(x, g, g.v);
  multiply<Singles, Start::zero>(x.events, scored, {x.width, d_o.at, d_o.stride, 1, g.turned, g.across, g.ds, g.across, nullptr});
  const Vec scale = set(x.scale);
  for (int64_t i = 0; i < x.events; ++i) {
    const float* p = g.p + i * g.across;
    float* ds = g.ds + i * g.across;
    const Vec delta = set(dot_row(p, ds, scored));
    for (int64_t j = 0; j < scored; j += kLanes)
      store(ds + j, mul(scale, mul(load(p + j), sub(load(ds + j), delta))));
  }
  close_group(x, g, g.p, 1, g.across, d_o, x.dv);
  close_group(x, g, g.ds, 1, g.across, g.q, x.dk);
  close_group(x, g, g.ds, g.across, 1, g.k, x.dq);
}

}  // namespace
