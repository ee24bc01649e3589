// Rows in and out of packed tiles. Part of attention_tiles.inl.

namespace {

using longer::cpu::kKeyBlock;
using longer::cpu::kPad;
using longer::cpu::kRowTile;

inline int64_t pad_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

inline void clear(float* at, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) store(at + i, set(0.0f));
}

void pack(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float factor, float* dst) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes, left = width - whole;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, dst += cols) {
    clear(dst + whole, cols - whole);
    if (is_bf16) {
      const uint16_t* from = static_cast<const uint16_t*>(src) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, mul(factors, load_bf16(from + i)));
      if (left > 0) store_part(dst + whole, mul(factors, load_bf16_part(from + whole, left)), left);
    } else {
      const float* from = static_cast<const float*>(src) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, mul(factors, load(from + i)));
      if (left > 0) store_part(dst + whole, mul(factors, load_part(from + whole, left)), left);
    }
  }
  clear(dst, (pad_to(rows, kPad) - rows) * cols);
}

void widen_row(const int8_t* src, float scale, void* dst, bool is_bf16, int64_t width) {
  const Vec scales = set(scale);
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t n = width - i < kLanes ? width - i : kLanes;
    float part[kLanes] = {};
    if (n == kLanes) {
      for (int l = 0; l < kLanes; ++l) part[l] = static_cast<float>(src[i + l]);
    } else {
      for (int64_t l = 0; l < n; ++l) part[l] = static_cast<float>(src[i + l]);
    }
    const Vec x = mul(scales, load(part));
    if (is_bf16) {
      uint16_t* to = static_cast<uint16_t*>(dst) + i;
      n == kLanes ? store_bf16(to, x) : store_bf16_part(to, x, n);
    } else {
      float* to = static_cast<float*>(dst) + i;
      n == kLanes ? store(to, x) : store_part(to, x, n);
    }
  }
}

void unpack(const float* src, float factor, void* dst, bool is_bf16, int64_t stride, int64_t rows, int64_t width) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes, left = width - whole;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, src += cols) {
    if (is_bf16) {
      uint16_t* to = static_cast<uint16_t*>(dst) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store_bf16(to + i, mul(factors, load(src + i)));
      if (left > 0) store_bf16_part(to + whole, mul(factors, load(src + whole)), left);
    } else {
      float* to = static_cast<float*>(dst) + r * stride;
      for (int64_t i = 0; i < whole; i += kLanes) store(to + i, mul(factors, load(src + i)));
      if (left > 0) store_part(to + whole, mul(factors, load(src + whole)), left);
    }
  }
}

void unpack_add(const float* src, float factor, float* dst, int64_t stride, int64_t rows, int64_t width) {
  const int64_t cols = pad_to(width, kPad), whole = width / kLanes * kLanes, left = width - whole;
  const Vec factors = set(factor);
  for (int64_t r = 0; r < rows; ++r, src += cols, dst += stride) {
    for (int64_t i = 0; i < whole; i += kLanes) store(dst + i, add(load(dst + i), mul(factors, load(src + i))));
    if (left > 0) store_part(dst + whole, add(load_part(dst + whole, left), mul(factors, load(src + whole))), left);
  }
}

void transpose_tile(const float* src, int64_t src_stride, int64_t rows, int64_t width, float* dst, int64_t dst_stride) {
  const int64_t cols = pad_to(width, kPad);
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t i = 0; i < cols; i += kLanes) transpose_square(src + r * src_stride + i, src_stride, dst + i * dst_stride + r, dst_stride);
}

// The part of what is ahead that belongs to rows [row, row + kRowTile) of `rows`.
inline void look_ahead(const longer::cpu::Ahead& ahead, int64_t row, int64_t rows) {
  constexpr int64_t kLine = 64;
  for (int i = 0; i < ahead.count; ++i) {
    const auto& strip = ahead.strips[i];
    const int64_t begin = strip.rows * row / rows, end = row + kRowTile < rows ? strip.rows * (row + kRowTile) / rows : strip.rows;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t at = 0; at < ahead.bytes; at += kLine) {
        const char* line = strip.at + r * ahead.stride + at;
        if (strip.write) __builtin_prefetch(line, 1, 3);
        else __builtin_prefetch(line, 0, 3);
      }
  }
}

}  // namespace
