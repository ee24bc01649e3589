// Matrices whose element type is known at run time only, so that one kernel serves every mix of types. The branch is the
// same for the whole grid, and the operations that use this are bound by memory.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/element.cuh"

namespace longer::cuda {

struct Values {
  void* data = nullptr;
  DType type = DType::f32;  // or bf16, f16
};

inline Values values(const char* op, const Tensor& t) {
  if (!t.present()) return {};
  if (t.dtype != DType::f32 && t.dtype != DType::bf16 && t.dtype != DType::f16) throw shape_error(std::string(op) + ": the device takes f32, bf16 and f16 only");
  return {t.data, t.dtype};
}

// Vectors that are always f32 (or f64, i32) by the op's definition: `T` is what the kernel reads.
template <class T>
T* vector_of(const char* op, const Tensor& t) {
  constexpr DType type = std::is_same_v<T, double> ? DType::f64 : std::is_same_v<T, int32_t> ? DType::i32 : DType::f32;
  if (!t.present()) return nullptr;
  if (t.dtype != type) throw shape_error(std::string(op) + ": an operand has another type than the device takes");
  return static_cast<T*>(t.data);
}

// May rows of `width` elements be read 8 elements at a time? Absent ones may.
inline bool packs_aligned(Values v, int64_t width) { return reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && width % kPack == 0; }

// All of them?
inline bool packs_aligned(std::initializer_list<const float*> list, int64_t width) {
  return std::all_of(list.begin(), list.end(), [width](const float* p) { return packs_aligned(p, width); });
}
inline bool packs_aligned(std::initializer_list<Values> list, int64_t width) {
  return std::all_of(list.begin(), list.end(), [width](Values v) { return packs_aligned(v, width); });
}

// visit(pointer to the elements)
template <class Visit>
__device__ __forceinline__ auto visit_elements(Values v, Visit&& visit) {
  if (v.type == DType::bf16) return visit(static_cast<Bf16*>(v.data));
  if (v.type == DType::f16) return visit(static_cast<Half*>(v.data));
  return visit(static_cast<float*>(v.data));
}

// Of the two types of 16 bits one is selected, not branched to: where a kernel has dozens of these, branches are most of its code.
__device__ __forceinline__ float get(Values v, int64_t i) {
  if (v.type == DType::f32) return static_cast<const float*>(v.data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(v.data)[i];
  const float bf16 = to_float(Bf16{bits}), half = to_float(Half{bits});
  return v.type == DType::bf16 ? bf16 : half;
}
__device__ __forceinline__ void put(Values v, int64_t i, float x) {
  if (v.type == DType::f32) {
    static_cast<float*>(v.data)[i] = x;
    return;
  }
  const uint16_t bf16 = from_float<Bf16>(x).bits, half = from_float<Half>(x).bits;
  static_cast<uint16_t*>(v.data)[i] = v.type == DType::bf16 ? bf16 : half;
}
__device__ __forceinline__ void load_pack(float (&out)[kPack], Values from, int64_t at, int count, bool vector) {
  visit_elements(from, [&](const auto* data) { load_pack(out, data + at, count, vector); });
}
__device__ __forceinline__ void store_pack(Values to, int64_t at, const float (&in)[kPack], int count, bool vector) {
  visit_elements(to, [&](auto* data) { store_pack(data + at, in, count, vector); });
}

// 8 neighbours at a multiple of 16 bytes as they lie in memory, which nothing waits for until they are made numbers.
struct RawPack {
  uint4 low, high;
};
__device__ __forceinline__ RawPack load_raw(Values from, int64_t at) {
  RawPack raw = {};
  if (from.type != DType::f32) {
    raw.low = ptx::load_global_16(static_cast<const uint16_t*>(from.data) + at);
  } else {
    raw.low = ptx::load_global_16(static_cast<const float*>(from.data) + at);
    raw.high = ptx::load_global_16(static_cast<const float*>(from.data) + at + 4);
  }
  return raw;
}
__device__ __forceinline__ void numbers_of(float (&out)[kPack], Values from, const RawPack& raw) {
  const uint32_t words[kPack] = {raw.low.x, raw.low.y, raw.low.z, raw.low.w, raw.high.x, raw.high.y, raw.high.z, raw.high.w};
#pragma unroll
  for (int i = 0; i < kPack / 2; ++i) {
    const float2 bf16 = unpack<Bf16>(words[i]), half = unpack<Half>(words[i]);
    const float2 pair = from.type == DType::bf16 ? bf16 : half;
    out[2 * i] = from.type == DType::f32 ? __uint_as_float(words[2 * i]) : pair.x;
    out[2 * i + 1] = from.type == DType::f32 ? __uint_as_float(words[2 * i + 1]) : pair.y;
  }
}

}  // namespace longer::cuda
