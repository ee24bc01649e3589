#include "plan/convert.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

namespace longer {

namespace {

struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

double load(const float* p, int64_t i) { return p[i]; }
double load(const double* p, int64_t i) { return p[i]; }
double load(const Bf16* p, int64_t i) {
  const uint32_t bits = static_cast<uint32_t>(p[i].bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
double load(const Half* p, int64_t i) {
  const int exponent = p[i].bits >> 10 & 31, fraction = p[i].bits & 1023;
  const double size = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return p[i].bits & 0x8000 ? -size : size;
}

void store(float* p, int64_t i, double value) { p[i] = static_cast<float>(value); }
void store(double* p, int64_t i, double value) { p[i] = value; }
void store(Bf16* p, int64_t i, double value) {
  const float single = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &single, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN stays NaN
    p[i].bits = static_cast<uint16_t>((bits >> 16) | 0x40);
    return;
  }
  p[i].bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
void store(Half* p, int64_t i, double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  uint16_t bits = 0x7e00;  // NaN
  if (size >= 65520) bits = 0x7c00;  // half-way from the largest to what would follow
  else if (size < 0x1p-14) bits = static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24)));  // 0x400 is the smallest normal one
  else if (size < 65520) {
    const int exponent = std::ilogb(size);
    // 1024 to 2048 units of the last place: what rounds up to 2048 carries into the exponent
    bits = static_cast<uint16_t>(((exponent + 14) << 10) + static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent))));
  }
  p[i].bits = static_cast<uint16_t>(sign | bits);
}

template <class From, class To>
void copy(const From* from, To* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) store(to, i, load(from, i));
}

template <class From>
void copy_from(const From* from, void* to, DType to_type, int64_t count) {
  switch (to_type) {
    case DType::f32: return copy(from, static_cast<float*>(to), count);
    case DType::bf16: return copy(from, static_cast<Bf16*>(to), count);
    case DType::f16: return copy(from, static_cast<Half*>(to), count);
    case DType::f64: return copy(from, static_cast<double*>(to), count);
    case DType::i32: throw std::logic_error("convert: float to i32");
  }
}

template <class T>
void round_all(double* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    T rounded;
    store(&rounded, 0, data[i]);
    data[i] = load(&rounded, 0);
  }
}

}  // namespace

bool convertible(DType from, DType to) { return (from == DType::i32) == (to == DType::i32); }

void convert(const void* from, DType from_type, void* to, DType to_type, int64_t count) {
  if (count <= 0) return;
  if (from_type == to_type) {
    std::memcpy(to, from, static_cast<size_t>(count * dtype_size(to_type)));
    return;
  }
  switch (from_type) {
    case DType::f32: return copy_from(static_cast<const float*>(from), to, to_type, count);
    case DType::bf16: return copy_from(static_cast<const Bf16*>(from), to, to_type, count);
    case DType::f16: return copy_from(static_cast<const Half*>(from), to, to_type, count);
    case DType::f64: return copy_from(static_cast<const double*>(from), to, to_type, count);
    case DType::i32: throw std::logic_error("convert: i32 to float");
  }
}

void round_to(DType type, double* data, int64_t count) {
  if (type == DType::bf16) round_all<Bf16>(data, count);
  if (type == DType::f16) round_all<Half>(data, count);
}

}  // namespace longer
