#include "plan/convert.h"

#include <cstring>
#include <stdexcept>

namespace longer {

namespace {

double load(const float* p, int64_t i) { return p[i]; }
double load(const double* p, int64_t i) { return p[i]; }
double load(const uint16_t* p, int64_t i) {
  const uint32_t bits = static_cast<uint32_t>(p[i]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void store(float* p, int64_t i, double value) { p[i] = static_cast<float>(value); }
void store(double* p, int64_t i, double value) { p[i] = value; }
void store(uint16_t* p, int64_t i, double value) {
  const float single = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &single, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN stays NaN
    p[i] = static_cast<uint16_t>((bits >> 16) | 0x40);
    return;
  }
  p[i] = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class From, class To>
void copy(const From* from, To* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) store(to, i, load(from, i));
}

template <class From>
void copy_from(const From* from, void* to, DType to_type, int64_t count) {
  switch (to_type) {
    case DType::f32: return copy(from, static_cast<float*>(to), count);
    case DType::bf16: return copy(from, static_cast<uint16_t*>(to), count);
    case DType::f64: return copy(from, static_cast<double*>(to), count);
    case DType::i32: throw std::logic_error("convert: float to i32");
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
    case DType::bf16: return copy_from(static_cast<const uint16_t*>(from), to, to_type, count);
    case DType::f64: return copy_from(static_cast<const double*>(from), to, to_type, count);
    case DType::i32: throw std::logic_error("convert: i32 to float");
  }
}

void round_to_bf16(double* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t rounded;
    store(&rounded, 0, data[i]);
    data[i] = load(&rounded, 0);
  }
}

}  // namespace longer
