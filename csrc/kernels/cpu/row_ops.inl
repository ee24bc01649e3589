// The body of row_ops_<isa>.cpp, after a vec_<isa>.h and vec_values.inl.

namespace {

using longer::cpu::EmbedField;
using longer::cpu::GatherRange;
using longer::cpu::GradUse;
using longer::cpu::GradUses;
using longer::cpu::ListedSum;
using longer::cpu::PairRows;

constexpr int kStrip = 4;         // vectors of a row that are summed at a time
constexpr int64_t kAhead = 8;     // rows that are fetched before they are needed
constexpr int64_t kBigRow = 256;  // bytes from which a plain copy pays

inline Vec read(const float* p) { return load(p); }
inline Vec read(const uint16_t* p) { return load_bf16(p); }
inline Vec read(const float* p, int64_t n) { return load_part(p, n); }
inline Vec read(const uint16_t* p, int64_t n) { return load_bf16_part(p, n); }
inline void write(float* p, Vec x) { store(p, x); }
inline void write(uint16_t* p, Vec x) { store_bf16(p, x); }
inline void write(float* p, Vec x, int64_t n) { store_part(p, x, n); }
inline void write(uint16_t* p, Vec x, int64_t n) { store_bf16_part(p, x, n); }

// Calls f with a pointer of the type that v holds, at an element.
template <class F>
inline void typed(Values v, int64_t at, F&& f) {
  if (v.is_bf16) f(static_cast<uint16_t*>(v.data) + at);
  else f(static_cast<float*>(v.data) + at);
}

template <class X, class Y>
inline void copy_row(const X* x, Y* y, int64_t width) {
  if (sizeof(X) == sizeof(Y) && width * static_cast<int64_t>(sizeof(X)) >= kBigRow) {
    __builtin_memcpy(y, x, static_cast<size_t>(width) * sizeof(X));
    return;
  }
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) write(y + i, read(x + i));
  if (i < width) write(y + i, read(x + i, width - i), width - i);
}

template <class Y>
inline void zero_row(Y* y, int64_t width) { __builtin_memset(y, 0, static_cast<size_t>(width) * sizeof(Y)); }

inline void fetch_row(const void* row, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(row) + b);
}

void copy(Values x, int64_t x_at, int64_t x_stride, Values y, int64_t y_at, int64_t y_stride, int64_t rows, int64_t width) {
  typed(x, x_at, [&](auto* from) {
    typed(y, y_at, [&](auto* to) {
      for (int64_t r = 0; r < rows; ++r) copy_row(from + r * x_stride, to + r * y_stride, width);
    });
  });
}

void spread(Values x, int64_t x_at, float factor, Values y, int64_t y_at, int64_t rows, int64_t width) {
  typed(y, y_at, [&](auto* to) {
    for (int64_t i = 0; i < width; i += kLanes) {
      const int64_t n = lanes_left(i, width);
      const Vec value = mul(get(x, x_at + i, n), set(factor));
      if (n == kLanes)
        for (int64_t r = 0; r < rows; ++r) write(to + r * width + i, value);
      else
        for (int64_t r = 0; r < rows; ++r) write(to + r * width + i, value, n);
    }
  });
}

void gather(const GatherRange& g, int64_t begin, int64_t end) {
  typed(g.y, 0, [&](auto* y) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t at = g.index[r];
      if (at < 0) {
        zero_row(y + r * g.width, g.width);
        continue;
      }
      int s = 0;
      for (; at >= g.rows[s]; ++s) at -= g.rows[s];
      typed(g.sources[s], at * g.width, [&](auto* from) { copy_row(from, y + r * g.width, g.width); });
    }
  });
}

// Sums rows, N vectors wide, or one of n lanes.
template <int N, class RowAt>
inline void sum_strip(int64_t from, int64_t to, Vec* sum, RowAt&& row_at) {
  for (int v = 0; v < N; ++v) sum[v] = set(0.0f);
  for (int64_t i = from; i < to; ++i) {
    const auto* row = row_at(i);
    for (int v = 0; v < N; ++v) sum[v] = add(sum[v], read(row + v * kLanes));
  }
}

template <class RowAt, class Put>
inline void sum_columns(int64_t from, int64_t to, int64_t width, RowAt&& row_at, Put&& put_at) {
  int64_t c = 0;
  for (; c + kStrip * kLanes <= width; c += kStrip * kLanes) {
    Vec sum[kStrip];
    sum_strip<kStrip>(from, to, sum, [&](int64_t i) { return row_at(i) + c; });
    for (int v = 0; v < kStrip; ++v) put_at(c + v * kLanes, sum[v], int64_t{kLanes});
  }
  for (; c + kLanes <= width; c += kLanes) {
    Vec sum[1];
    sum_strip<1>(from, to, sum, [&](int64_t i) { return row_at(i) + c; });
    put_at(c, sum[0], int64_t{kLanes});
  }
  if (c == width) return;
  Vec sum = set(0.0f);
  for (int64_t i = from; i < to; ++i) sum = add(sum, read(row_at(i) + c, width - c));
  put_at(c, sum, width - c);
}

void listed_sum(const ListedSum& s, int64_t begin, int64_t end, int64_t column_begin, int64_t column_end) {
  typed(s.x, column_begin, [&](const auto* x) {
    typed(s.y, column_begin, [&](auto* y) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t from = s.starts[r], to = s.starts[r + 1];
        auto* out = y + r * s.width;
        if (from == to) {
          zero_row(out, column_end - column_begin);
          continue;
        }
        const Vec share = set(s.mean ? 1.0f / static_cast<float>(to - from) : 1.0f);
        const auto put_at = [&](int64_t c, Vec sum, int64_t n) {
          if (n == kLanes) write(out + c, mul(sum, share));
          else write(out + c, mul(sum, share), n);
        };
        if (s.order) sum_columns(from, to, column_end - column_begin, [&](int64_t i) { return x + s.order[i] * s.width; }, put_at);
        else sum_columns(from, to, column_end - column_begin, [&](int64_t i) { return x + i * s.width; }, put_at);
      }
    });
  });
}

void strided_sum(const float* x, int64_t stride, int64_t count, Values y, int64_t at, int64_t width) {
  sum_columns(0, count, width, [&](int64_t i) { return x + i * stride; },
              [&](int64_t c, Vec sum, int64_t n) { put(y, at + c, sum, n); });
}

inline void add_row(const float* x, float* y, int64_t width) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(y + i, add(load(y + i), load(x + i)));
  if (i < width) store_part(y + i, add(load_part(y + i, width - i), load_part(x + i, width - i)), width - i);
}

void embed_pooled(const EmbedField& f, int64_t r, float* out) {
  float share = 1.0f;
  if (f.mean) {
    int64_t there = 0;
    for (int64_t i = f.offsets[r]; i < f.offsets[r + 1]; ++i) there += f.ids[i] >= 0;
    share = 1.0f / static_cast<float>(there);
  }
  for (int64_t c = 0; c < f.width; c += kLanes) {
    const int64_t n = lanes_left(c, f.width);
    Vec sum = set(0.0f);
    bool any = false;
    for (int64_t i = f.offsets[r]; i < f.offsets[r + 1]; ++i) {
      if (f.ids[i] < 0) continue;
      any = true;
      sum = add(sum, load_n(f.table + f.ids[i] * f.width + c, n));
    }
    if (any) sum = mul(sum, set(share));
    store_n(out + c, f.adds ? add(load_n(out + c, n), sum) : sum, n);
  }
}

void embed(const EmbedField& f, int64_t begin, int64_t end, float* out, int64_t out_stride) {
  if (f.offsets) {
    for (int64_t r = begin; r < end; ++r, out += out_stride) embed_pooled(f, r, out);
    return;
  }
  for (int64_t r = begin; r < end; ++r, out += out_stride) {
    if (r + kAhead < end && f.ids[r + kAhead] >= 0) fetch_row(f.table + f.ids[r + kAhead] * f.width, f.width * 4);
    const int64_t id = f.ids[r];
    if (id >= 0 && f.adds) add_row(f.table + id * f.width, out, f.width);
    else if (id >= 0) copy_row(f.table + id * f.width, out, f.width);
    else if (!f.adds) zero_row(out, f.width);
  }
}

inline const GradUse& use_of(const GradUses& g, int64_t source) {
  int u = 0;
  while (u + 1 < g.count && source >= g.use[u + 1].first) ++u;
  return g.use[u];
}

inline int64_t element_of(const GradUse& use, int64_t source) {
  const int64_t i = source - use.first;
  return (use.row ? use.row[i] : i) * use.stride + use.column;
}

template <int N>
inline void grad_strip(const GradUses& g, const uint64_t* keys, int64_t count, int64_t ahead, int64_t c, int64_t n, float* out) {
  Vec sum[N];
  for (int v = 0; v < N; ++v) sum[v] = set(0.0f);
  for (int64_t k = 0; k < count; ++k) {
    if (c == 0 && k + kAhead < ahead) {
      const int64_t later = static_cast<uint32_t>(keys[k + kAhead]);
      const GradUse& use = use_of(g, later);
      const int64_t size = use.dy.is_bf16 ? 2 : 4;
      fetch_row(static_cast<const char*>(use.dy.data) + element_of(use, later) * size, g.width * size);
    }
    const int64_t source = static_cast<uint32_t>(keys[k]);
    const GradUse& use = use_of(g, source);
    const int64_t at = element_of(use, source) + c;
    if (use.share) {
      const Vec share = set(use.share[source - use.first]);
      for (int v = 0; v < N; ++v) sum[v] = add(sum[v], mul(get(use.dy, at + v * kLanes, n), share));
    } else {
      for (int v = 0; v < N; ++v) sum[v] = add(sum[v], get(use.dy, at + v * kLanes, n));
    }
  }
  for (int v = 0; v < N; ++v) store_n(out + c + v * kLanes, sum[v], n);
}

void grad_sum(const GradUses& g, const uint64_t* keys, int64_t count, int64_t ahead, float* out) {
  int64_t c = 0;
  for (; c + kStrip * kLanes <= g.width; c += kStrip * kLanes) grad_strip<kStrip>(g, keys, count, ahead, c, kLanes, out);
  for (; c < g.width; c += kLanes) grad_strip<1>(g, keys, count, ahead, c, lanes_left(c, g.width), out);
}

}  // namespace

#include "kernels/cpu/pair_rows.inl"
