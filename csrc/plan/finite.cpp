#include "plan/finite.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

namespace longer {

namespace {
constexpr int64_t kChunk = int64_t{1} << 16;

// In each type: all exponent bits set means NaN or Inf. Branch-free, so that it vectorises.
template <class Bits>
bool any_special(const Bits* bits, int64_t count, Bits exponent) {
  Bits found = 0;
  for (int64_t i = 0; i < count; ++i) found |= static_cast<Bits>((bits[i] & exponent) == exponent);
  return found != 0;
}

bool any_special(const Tensor& t, int64_t from, int64_t count) {
  switch (t.dtype) {
    case DType::f32: return any_special(static_cast<const uint32_t*>(t.data) + from, count, uint32_t{0x7f800000u});
    case DType::bf16: return any_special(static_cast<const uint16_t*>(t.data) + from, count, uint16_t{0x7f80u});
    case DType::f16: return any_special(static_cast<const uint16_t*>(t.data) + from, count, uint16_t{0x7c00u});
    case DType::f64: return any_special(static_cast<const uint64_t*>(t.data) + from, count, uint64_t{0x7ff0000000000000u});
    case DType::i32: return false;
  }
  return false;
}

bool all_finite(const Tensor& t, int64_t count, ThreadPool* pool) {
  if (t.dtype == DType::i32) return true;
  std::atomic<bool> bad{false};
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  pool->parallel_for(chunks, [&](int64_t chunk, int) {
    const int64_t from = chunk * kChunk;
    if (any_special(t, from, std::min(kChunk, count - from))) bad.store(true, std::memory_order_relaxed);
  });
  return !bad.load();
}

// The log-sum-exp of a row that sees nothing is -inf.
bool finite_or_minus_infinity(const Tensor& t) {
  for (int64_t i = 0; i < t.size(); ++i) {
    const double value = t.dtype == DType::f64 ? t.f64()[i] : static_cast<double>(t.f32()[i]);
    if (!(value < std::numeric_limits<double>::infinity())) return false;
  }
  return true;
}

bool is_attention(const char* name) { return !std::strcmp(name, "attention") || !std::strcmp(name, "candidate_attention"); }
}  // namespace

bool outputs_are_finite(const Op& op, const Call& call) {
  const bool sparse = !std::strcmp(op.name, "sparse_grad");  // only the first count rows are written
  const bool attention = is_attention(op.name);
  for (int i = 0; i < call.outs; ++i) {
    const Tensor& t = call.out[i];
    if (!t.present()) continue;
    if (attention && i == 1) {
      if (!finite_or_minus_infinity(t)) return false;
      continue;
    }
    const int64_t rows = sparse && i == 1 ? std::min<int64_t>(call.output(2).i32()[0], t.rows()) : t.rows();
    if (!all_finite(t, rows * t.cols(), call.pool)) return false;
  }
  return true;
}

}  // namespace longer
