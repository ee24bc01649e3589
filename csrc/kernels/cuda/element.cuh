// The element types of tensors on the device, and rows of them in registers. Arithmetic is in float.
#pragma once
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace longer::cuda {

struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};
// An f32 whose products take its nearest TF32 number.
struct Tf32 {
  float value;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
__device__ __forceinline__ float to_float(Half x) { return ptx::f16_to_float(x.bits); }
__device__ __forceinline__ float to_float(Tf32 x) { return x.value; }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ Bf16 from_float<Bf16>(float x) { return {static_cast<uint16_t>(ptx::pack_bf16(x, 0.f))}; }
template <>
__device__ __forceinline__ Half from_float<Half>(float x) { return {static_cast<uint16_t>(ptx::pack_f16(x, 0.f))}; }
template <>
__device__ __forceinline__ Tf32 from_float<Tf32>(float x) { return {x}; }

// Two neighbours in one register, the first one low.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<Bf16>(float low, float high) { return ptx::pack_bf16(low, high); }
template <>
__device__ __forceinline__ uint32_t pack<Half>(float low, float high) { return ptx::pack_f16(low, high); }
template <class T>
__device__ __forceinline__ float2 unpack(uint32_t pair) {
  return {to_float(T{static_cast<uint16_t>(pair)}), to_float(T{static_cast<uint16_t>(pair >> 16)})};
}

// The product of a 16 x 16 and a 16 x 8 tile, added to d.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void multiply<Bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { ptx::mma_bf16(d, a, b0, b1); }
template <>
__device__ __forceinline__ void multiply<Half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { ptx::mma_f16(d, a, b0, b1); }

// kCount neighbours at an address that is a multiple of 16 bytes (8 elements of 2 bytes or 4 floats a load); else, with
// vector == false, one by one.
constexpr int kPack = 8;

template <class T>
__device__ __forceinline__ void load_pack(float (&out)[kPack], const T* from, int count, bool vector) {
  if (vector && count == kPack) {
    if constexpr (sizeof(T) == 4) {
      for (int half = 0; half < 2; ++half) {
        const uint4 v = ptx::load_global_16(from + 4 * half);
        out[4 * half] = __uint_as_float(v.x), out[4 * half + 1] = __uint_as_float(v.y);
        out[4 * half + 2] = __uint_as_float(v.z), out[4 * half + 3] = __uint_as_float(v.w);
      }
    } else {
      const uint4 v = ptx::load_global_16(from);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 pair = unpack<T>(words[i]);
        out[2 * i] = pair.x, out[2 * i + 1] = pair.y;
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) out[i] = i < count ? to_float(from[i]) : 0.f;
}

// Of memory that the kernel itself writes, which must not go through the read-only path.
__device__ __forceinline__ void load_own_pack(float (&out)[kPack], const float* from, int count, bool vector) {
  if (vector && count == kPack) {
    const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
    out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
    out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) out[i] = i < count ? from[i] : 0.f;
}

template <class T>
__device__ __forceinline__ void store_pack(T* to, const float (&in)[kPack], int count, bool vector) {
  if (vector && count == kPack) {
    if constexpr (sizeof(T) == 4) {
      for (int half = 0; half < 2; ++half)
        ptx::store_global_16(to + 4 * half, make_uint4(__float_as_uint(in[4 * half]), __float_as_uint(in[4 * half + 1]),
                                                       __float_as_uint(in[4 * half + 2]), __float_as_uint(in[4 * half + 3])));
    } else {
      ptx::store_global_16(to, make_uint4(pack<T>(in[0], in[1]), pack<T>(in[2], in[3]), pack<T>(in[4], in[5]), pack<T>(in[6], in[7])));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < count) to[i] = from_float<T>(in[i]);
}

// May rows of `width` elements that start at `data` be read 8 elements at a time?
template <class T>
bool packs_aligned(const T* data, int64_t width) { return reinterpret_cast<uintptr_t>(data) % 16 == 0 && width % kPack == 0; }

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
  return x;
}

}  // namespace longer::cuda
