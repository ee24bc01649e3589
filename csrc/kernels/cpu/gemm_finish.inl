// What becomes of a tile of a product in registers. Part of gemm.inl.

namespace {

using longer::cpu::GemmBlock;
using longer::cpu::GemmFinish;

// What becomes of rows and a panel at (row, col) is brought near before it is read and written.
inline void await_finish(const GemmBlock& g, int64_t rows, int64_t row, int64_t col) {
  if (!g.far) return;
  const auto near = [&](Values v, auto prefetch) {
    if (!v.data) return;
    const int64_t size = v.is_bf16 ? 2 : 4, stride = g.finish_cols * size;
    const char* at = static_cast<const char*>(v.data) + row * stride + col * size;
    for (int64_t r = 0; r < rows; ++r, at += stride)
      for (int64_t i = 0; i < kPanel * size; i += 64) prefetch(at + i);
  };
  const auto read = [](const char* p) { __builtin_prefetch(p, 0, 3); };
  const auto write = [](const char* p) { __builtin_prefetch(p, 1, 3); };
  if (g.finish.backward) near(g.finish.pre, read);
  else near(g.finish.pre, write);
  near(g.finish.residual, read);
  near(g.finish.out, write);
}

// Parts of vectors: rows x cols values with a stride of `width`, at (row, col).
void finish_edge(const GemmBlock& g, const float* buffer, int64_t width, int64_t rows, int64_t row, int64_t col, int64_t cols) {
  const GemmFinish f = g.finish;
  with_activation(f.activation, [&](auto kind) {
    constexpr Activation activation = decltype(kind)::kind;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; c += kLanes) {
        const int64_t n = lanes_left(c, cols), at = (row + r) * g.finish_cols + col + c;
        Vec v = load(buffer + r * width + c);
        if (f.bias) v = add(v, load_n(f.bias + col + c, n));
        if (f.backward) {
          if (f.pre.data) v = mul(v, activation_slope<activation>(get(f.pre, at, n)));
        } else {
          if (f.pre.data) put(f.pre, at, v, n);
          v = activate<activation>(v);
        }
        if (f.residual.data) v = add(v, get(f.residual, at, n));
        put(f.out, at, v, n);
      }
  });
}

// In place, `vectors` of them.
void activate_buffer(Activation kind, float* buffer, int64_t vectors) {
  with_activation(kind, [&](auto k) {
#pragma GCC unroll 2
    for (int64_t i = 0; i < vectors; ++i) store(buffer + i * kLanes, activate<decltype(k)::kind>(load(buffer + i * kLanes)));
  });
}

// buffer *= act'(pre); a row of the buffer has `vectors`.
void slope_buffer(Activation kind, Values pre, int64_t at, int64_t stride, float* buffer, int64_t rows, int64_t vectors) {
  const auto run = [&](auto read) {
    with_activation(kind, [&](auto k) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < vectors; ++j, buffer += kLanes)
          store(buffer, mul(load(buffer), activation_slope<decltype(k)::kind>(read(at + r * stride + j * kLanes))));
    });
  };
  if (pre.is_bf16) run([p = static_cast<const uint16_t*>(pre.data)](int64_t i) { return load_bf16(p + i); });
  else run([p = static_cast<const float*>(pre.data)](int64_t i) { return load(p + i); });
}

template <int R, int V>
inline void put_tile(Values to, int64_t at, int64_t stride, const Vec (&acc)[R][V]) {
  if (to.is_bf16) {
    uint16_t* out = static_cast<uint16_t*>(to.data) + at;
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store_bf16(out + i * stride + j * kLanes, acc[i][j]);
  } else {
    float* out = static_cast<float*>(to.data) + at;
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store(out + i * stride + j * kLanes, acc[i][j]);
  }
}

template <int R, int V>
inline void add_tile(Values from, int64_t at, int64_t stride, Vec (&acc)[R][V]) {
  if (from.is_bf16) {
    const uint16_t* p = static_cast<const uint16_t*>(from.data) + at;
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = add(acc[i][j], load_bf16(p + i * stride + j * kLanes));
  } else {
    const float* p = static_cast<const float*>(from.data) + at;
#pragma GCC unroll 32
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[i][j] = add(acc[i][j], load(p + i * stride + j * kLanes));
  }
}

template <int R, int V>
inline void to_buffer(const Vec (&acc)[R][V], float* buffer) {
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) store(buffer + (i * V + j) * kLanes, acc[i][j]);
}

template <int R, int V>
inline void from_buffer(Vec (&acc)[R][V], const float* buffer) {
#pragma GCC unroll 32
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[i][j] = load(buffer + (i * V + j) * kLanes);
}

// Whole tiles leave the registers only for an activation.
template <int R, int V>
inline void finish_registers(const GemmBlock& g, Vec (&acc)[R][V], int64_t row, int64_t col, int64_t cols) {
  const GemmFinish& f = g.finish;
  float buffer[R * V * kLanes];
  if (cols != V * kLanes) {
    to_buffer(acc, buffer);
    return finish_edge(g, buffer, V * kLanes, R, row, col, cols);
  }
  const int64_t stride = g.finish_cols, at = row * stride + col;
  if (f.bias) {
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) {
      const Vec bias = load(f.bias + col + j * kLanes);
#pragma GCC unroll 32
      for (int i = 0; i < R; ++i) acc[i][j] = add(acc[i][j], bias);
    }
  }
  if (f.pre.data && !f.backward) put_tile(f.pre, at, stride, acc);
  if (f.activation != Activation::none) {
    to_buffer(acc, buffer);
    if (f.backward) slope_buffer(f.activation, f.pre, at, stride, buffer, R, V);
    else activate_buffer(f.activation, buffer, R * V);
    from_buffer(acc, buffer);
  }
  if (f.residual.data) add_tile(f.residual, at, stride, acc);
  put_tile(f.out, at, stride, acc);
}

}  // namespace
