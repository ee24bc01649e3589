#include "peak.h"

#include <cmath>
#include <vector>

#include "runtime/cpu_features.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

using longer::Isa;

struct alignas(64) Sink { float value; };

// Each burst keeps enough independent chains in flight to hide the latency of a multiply-add, and returns its FLOPs.
double burst_plain(int64_t repeats, float* sink) {
  float chains[16] = {};
  for (int64_t r = 0; r < repeats; ++r)
    for (float& c : chains) c = std::fma(c, 0.999f, 1e-3f);
  for (const float c : chains) *sink += c;
  return static_cast<double>(repeats) * 16 * 2;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) double burst_avx2(int64_t repeats, float* sink) {
  __m256 chains[12];
  for (int i = 0; i < 12; ++i) chains[i] = _mm256_set1_ps(1e-6f * static_cast<float>(i));
  const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
  for (int64_t r = 0; r < repeats; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) chains[i] = _mm256_fmadd_ps(chains[i], x, y);
  }
  for (int i = 0; i < 12; ++i) *sink += _mm256_cvtss_f32(chains[i]);
  return static_cast<double>(repeats) * 12 * 8 * 2;
}

__attribute__((target("avx512f"))) double burst_avx512(int64_t repeats, float* sink) {
  __m512 chains[24];
  for (int i = 0; i < 24; ++i) chains[i] = _mm512_set1_ps(1e-6f * static_cast<float>(i));
  const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
  for (int64_t r = 0; r < repeats; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) chains[i] = _mm512_fmadd_ps(chains[i], x, y);
  }
  for (int i = 0; i < 24; ++i) *sink += _mm512_cvtss_f32(chains[i]);
  return static_cast<double>(repeats) * 24 * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) double burst_bf16(int64_t repeats, float* sink) {
  __m512 chains[24];
  for (int i = 0; i < 24; ++i) chains[i] = _mm512_set1_ps(1e-6f * static_cast<float>(i));
  const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3c003c00), y = x;
  for (int64_t r = 0; r < repeats; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) chains[i] = _mm512_dpbf16_ps(chains[i], x, y);
  }
  for (int i = 0; i < 24; ++i) *sink += _mm512_cvtss_f32(chains[i]);
  return static_cast<double>(repeats) * 24 * 32 * 2;
}
#endif

using Burst = double (*)(int64_t, float*);

Burst choose(Precision precision) {
#if defined(__x86_64__)
  const Isa isa = longer::active_isa();
  if (precision == Precision::bf16) return isa >= Isa::avx512bf16 ? burst_bf16 : nullptr;
  if (isa >= Isa::avx512) return burst_avx512;
  if (isa == Isa::avx2) return burst_avx2;
#endif
  return precision == Precision::f32 ? burst_plain : nullptr;
}

}  // namespace

double peak_burst(Precision precision, longer::ThreadPool& pool, int64_t repeats) {
  const Burst burst = choose(precision);
  if (!burst) return 0;
  // A task of its own for every piece: a thread that is late takes fewer of them.
  const int64_t pieces = pool.size() == 1 ? 1 : 8 * pool.size();
  std::vector<Sink> sinks(static_cast<size_t>(pieces));
  std::vector<double> flops(static_cast<size_t>(pieces));
  pool.parallel_for(pieces, [&](int64_t t, int) { flops[t] = burst(repeats * pool.size() / pieces, &sinks[t].value); });
  double sum = 0;
  volatile float kept = 0;
  for (int64_t t = 0; t < pieces; ++t) sum += flops[t], kept = kept + sinks[t].value;
  return sum;
}

}  // namespace bench
