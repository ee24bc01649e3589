// The part of CUDA C++ that the kernels use, for g++: keywords, built-in variables, collectives, atomics, intrinsics.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "simt/machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ _Pragma("GCC error \"shared memory is a struct: shared_memory<Smem>()\"")

#define threadIdx (::simt::current->thread)
#define blockIdx (::simt::current->block)
#define blockDim (::simt::current->block_size)
#define gridDim (::simt::current->grid)

using dim3 = simt::Dim3;
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline float __uint_as_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
inline uint32_t __float_as_uint(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<uint32_t>(bits)); }
inline float rsqrtf(float x) { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }

inline void __syncthreads(SIMT_HERE) { simt::sync_block({"__syncthreads", file, line}); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, SIMT_HERE) { simt::meet_warp(mask, {"__syncwarp", file, line}, nullptr, nullptr, true); }

namespace simt {
enum class Shuffle { index, up, down, exclusive };
uint64_t shuffle(uint32_t mask, uint64_t value, int by, Shuffle kind, int width, Site site);
uint32_t ballot(uint32_t mask, bool vote, Site site);
uint32_t match(uint32_t mask, uint64_t value, Site site);

template <class T>
T shuffle_value(uint32_t mask, T value, int by, Shuffle kind, int width, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, by, kind, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace simt

template <class T>
T __shfl_sync(uint32_t mask, T value, int lane, int width = 32, SIMT_HERE) {
  return simt::shuffle_value(mask, value, lane, simt::Shuffle::index, width, {"__shfl_sync", file, line});
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, int by, int width = 32, SIMT_HERE) {
  return simt::shuffle_value(mask, value, by, simt::Shuffle::up, width, {"__shfl_up_sync", file, line});
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, int by, int width = 32, SIMT_HERE) {
  return simt::shuffle_value(mask, value, by, simt::Shuffle::down, width, {"__shfl_down_sync", file, line});
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, SIMT_HERE) {
  return simt::shuffle_value(mask, value, bits, simt::Shuffle::exclusive, width, {"__shfl_xor_sync", file, line});
}
inline uint32_t __ballot_sync(uint32_t mask, bool vote, SIMT_HERE) { return simt::ballot(mask, vote, {"__ballot_sync", file, line}); }
inline bool __any_sync(uint32_t mask, bool vote, SIMT_HERE) { return simt::ballot(mask, vote, {"__any_sync", file, line}) != 0; }
inline bool __all_sync(uint32_t mask, bool vote, SIMT_HERE) { return simt::ballot(mask, vote, {"__all_sync", file, line}) == mask; }
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value, SIMT_HERE) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return simt::match(mask, bits, {"__match_any_sync", file, line});
}

// Relaxed, as CUDA's: they order nothing else. Ordered ones are in ptx.cuh.
template <class T>
T atomicAdd(T* address, T value) {
  simt::preempt();
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
inline float atomicAdd(float* address, float value) {
  simt::preempt();
  auto* word = reinterpret_cast<uint32_t*>(address);
  uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old, __float_as_uint(__uint_as_float(old) + value), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return __uint_as_float(old);
}
template <class T>
T atomicMax(T* address, T value) {
  simt::preempt();
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(address, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  simt::preempt();
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <class T>
T atomicExch(T* address, T value) {
  simt::preempt();
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}
