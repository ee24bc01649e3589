// Pairs of a candidate and the events of its request. Part of row_ops.inl.

namespace {

void pair_features(const PairRows& p, int64_t candidate, int64_t event, int64_t events, int64_t pair) {
  const int64_t d = p.width;
  for (int64_t i = 0; i < d; i += kLanes) {
    const int64_t n = lanes_left(i, d);
    const Vec c = get(p.c, candidate * d + i, n);
    for (int64_t k = 0; k < events; ++k) {
      const Vec e = get(p.e, (event + k) * d + i, n);
      const int64_t at = (pair + k) * 4 * d + i;
      put(p.y, at, c, n);
      put(p.y, at + d, e, n);
      put(p.y, at + 2 * d, sub(c, e), n);
      put(p.y, at + 3 * d, mul(c, e), n);
    }
  }
}

void pair_features_dx(const PairRows& p, int64_t candidate, int64_t event, int64_t events, int64_t pair, float* dc, float* de) {
  const int64_t d = p.width;
  for (int64_t i = 0; i < d; i += kLanes) {
    const int64_t n = lanes_left(i, d);
    const Vec c = get(p.c, candidate * d + i, n);
    Vec sum = set(0.0f);
    for (int64_t k = 0; k < events; ++k) {
      const int64_t at = (pair + k) * 4 * d + i;
      const Vec e = get(p.e, (event + k) * d + i, n);
      const Vec g2 = get(p.y, at + 2 * d, n), g3 = get(p.y, at + 3 * d, n);
      sum = add(sum, fma(g3, e, add(get(p.y, at, n), g2)));
      float* to = de + k * d + i;
      store_n(to, add(load_n(to, n), fma(g3, c, sub(get(p.y, at + d, n), g2))), n);
    }
    store_n(dc + i, sum, n);
  }
}

inline float number(Values v, int64_t at) {
  if (!v.is_bf16) return static_cast<const float*>(v.data)[at];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(v.data)[at]) << 16;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

template <int M>
void pool_candidates(Values w, int64_t w_at, int64_t stride, Values e, int64_t event, int64_t events, Values y, int64_t candidate,
                     int64_t width) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= width; c += 2 * kLanes) {  // two vectors of M candidates
    Vec sum[M][2];
    for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = set(0.0f);
    for (int64_t k = 0; k < events; ++k) {
      const Vec low = get(e, (event + k) * width + c, kLanes), high = get(e, (event + k) * width + c + kLanes, kLanes);
      for (int m = 0; m < M; ++m) {
        const Vec weight = set(number(w, w_at + m * stride + k));
        sum[m][0] = fma(weight, low, sum[m][0]);
        sum[m][1] = fma(weight, high, sum[m][1]);
      }
    }
    for (int m = 0; m < M; ++m) {
      put(y, (candidate + m) * width + c, sum[m][0], kLanes);
      put(y, (candidate + m) * width + c + kLanes, sum[m][1], kLanes);
    }
  }
  for (; c < width; c += kLanes) {
    const int64_t n = lanes_left(c, width);
    Vec sum[M];
    for (int m = 0; m < M; ++m) sum[m] = set(0.0f);
    for (int64_t k = 0; k < events; ++k) {
      const Vec x = get(e, (event + k) * width + c, n);
      for (int m = 0; m < M; ++m) sum[m] = fma(set(number(w, w_at + m * stride + k)), x, sum[m]);
    }
    for (int m = 0; m < M; ++m) put(y, (candidate + m) * width + c, sum[m], n);
  }
}

void pair_pool(Values w, int64_t w_at, int64_t stride, Values e, int64_t event, int64_t events, Values y, int64_t candidate,
               int64_t candidates, int64_t width) {
  switch (candidates) {
    case 4: return pool_candidates<4>(w, w_at, stride, e, event, events, y, candidate, width);
    case 3: return pool_candidates<3>(w, w_at, stride, e, event, events, y, candidate, width);
    case 2: return pool_candidates<2>(w, w_at, stride, e, event, events, y, candidate, width);
    default: return pool_candidates<1>(w, w_at, stride, e, event, events, y, candidate, width);
  }
}

void pair_pool_dx(Values w, Values e, Values dy, Values dw, int64_t candidate, int64_t event, int64_t events, int64_t pair,
                  int64_t width, float* de) {
  for (int64_t k = 0; k < events; ++k) {
    const Vec weight = set(number(w, pair + k));
    Vec sum = set(0.0f);
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t n = lanes_left(c, width);
      const Vec g = get(dy, candidate * width + c, n);
      sum = fma(g, get(e, (event + k) * width + c, n), sum);
      float* to = de + k * width + c;
      store_n(to, fma(weight, g, load_n(to, n)), n);
    }
    put(dw, pair + k, set(sum_lanes(sum)), 1);
  }
}

}  // namespace
