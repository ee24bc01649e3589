// The kernels of conformance.h, for nvcc and for g++ (LONGER_SIMT). One block each unless said; lanes write what they got.
#pragma once
#include "gpu/conformance.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

#if defined(LONGER_SIMT) || __CUDA_ARCH__ >= 900
#define LONGER_HOPPER 1
#endif
#if defined(LONGER_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LONGER_WGMMA 1
#endif

namespace {

using namespace longer;
using conformance::Case;
using conformance::Compare;
using conformance::Fill;

struct Given {
  const uint32_t* in;
  uint32_t* out;
};

// ---- numbers

enum class Number { pack_bf16, pack_f16, f16_to_float, to_tf32, exp2 };
template <Number kNumber>
__global__ void number(Given g) {
  const uint32_t t = threadIdx.x;
  const float a = __uint_as_float(g.in[t]), b = __uint_as_float(g.in[t + 256]);
  if constexpr (kNumber == Number::pack_bf16) g.out[t] = ptx::pack_bf16(a, b);
  if constexpr (kNumber == Number::pack_f16) g.out[t] = ptx::pack_f16(a, b);
  if constexpr (kNumber == Number::f16_to_float) g.out[t] = __float_as_uint(ptx::f16_to_float(static_cast<uint16_t>(g.in[t])));
  if constexpr (kNumber == Number::to_tf32) g.out[t] = ptx::to_tf32(a);
  if constexpr (kNumber == Number::exp2) g.out[t] = __float_as_uint(ptx::exp2_approx(a));
}

// ---- matrices in shared memory: 64 rows of 16 bytes, each lane names one by its input

struct Rows {
  alignas(16) uint32_t words[64][4];
};

enum class Matrix { x4, x4_trans, x2, x2_trans, store, store_trans };
template <Matrix kMatrix>
__global__ void matrix(Given g) {
  Rows& shared = shared_memory<Rows>();
  const int t = threadIdx.x;
  for (int i = t; i < 256; i += 32) shared.words[i / 4][i % 4] = g.in[i];
  __syncwarp();
  uint32_t r[4] = {}, pair[2] = {};
  if constexpr (kMatrix == Matrix::store || kMatrix == Matrix::store_trans) {
#ifdef LONGER_HOPPER
    for (int i = 0; i < 4; ++i) r[i] = g.in[256 + 4 * t + i];
    void* row = shared.words[(t * 37 + g.in[512]) % 64];  // 37 is odd: rows that differ
    if constexpr (kMatrix == Matrix::store) ptx::stmatrix_x4(row, r);
    else ptx::stmatrix_x4_trans(row, r);
    __syncwarp();
    for (int i = t; i < 256; i += 32) g.out[i] = shared.words[i / 4][i % 4];
#endif
    return;
  }
  const void* row = shared.words[g.in[256 + t] % 64];
  if constexpr (kMatrix == Matrix::x4) ptx::ldmatrix_x4(r, row);
  if constexpr (kMatrix == Matrix::x4_trans) ptx::ldmatrix_x4_trans(r, row);
  if constexpr (kMatrix == Matrix::x2) ptx::ldmatrix_x2(pair, row);
  if constexpr (kMatrix == Matrix::x2_trans) ptx::ldmatrix_x2_trans(pair, row);
  for (int i = 0; i < 4; ++i) g.out[4 * t + i] = r[i] ^ (i < 2 ? pair[i] : 0);
}

enum class Kind { bf16, f16, tf32 };
// a: words 0 .. 127, b: 128 .. 191, d: 192 .. 319, floats made of the words there
template <Kind kKind>
__global__ void product(Given g) {
  const int t = threadIdx.x;
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) a[i] = g.in[4 * t + i];
  for (int i = 0; i < 2; ++i) b[i] = g.in[128 + 2 * t + i];
  for (int i = 0; i < 4; ++i) d[i] = __uint_as_float(kKind == Kind::bf16 ? g.in[192 + 4 * t + i] & 0xffff0000u : kKind == Kind::tf32 ? g.in[192 + 4 * t + i] : 0);
  if constexpr (kKind == Kind::bf16) ptx::mma_bf16(d, a, b[0], b[1]);
  if constexpr (kKind == Kind::f16) ptx::mma_f16(d, a, b[0], b[1]);
  if constexpr (kKind == Kind::tf32) {
    for (uint32_t& w : a) w = ptx::to_tf32(__uint_as_float(w));
    ptx::mma_tf32(d, a, ptx::to_tf32(__uint_as_float(b[0])), ptx::to_tf32(__uint_as_float(b[1])));
  }
  for (int i = 0; i < 4; ++i) g.out[4 * t + i] = __float_as_uint(d[i]);
}

// ---- the warp: shuffles and votes

__global__ void warp(Given g) {
  const int t = threadIdx.x, other = static_cast<int>(g.in[32 + t] % 32);
  const uint32_t mine = g.in[t], half = t < 16 ? 0xffffu : 0xffff0000u;
  uint32_t* out = g.out + 8 * t;
  out[0] = __shfl_sync(~0u, mine, other);
  out[1] = __shfl_xor_sync(~0u, mine, static_cast<int>(g.in[64] % 32));
  out[2] = __shfl_up_sync(~0u, mine, static_cast<int>(g.in[65] % 32), 16);
  out[3] = __shfl_down_sync(~0u, mine, static_cast<int>(g.in[66] % 32));
  out[4] = __ballot_sync(half, mine & 1);
  out[5] = __match_any_sync(~0u, mine % 5);
  out[6] = (__any_sync(~0u, mine % 32 == 7) ? 1 : 0) | (__all_sync(half, mine % 32 != 7) ? 2 : 0);
  out[7] = static_cast<uint32_t>(__popc(mine)) << 16 | static_cast<uint32_t>(__clz(static_cast<int>(mine)));
}

// ---- memory

__global__ void copies(Given g) {
  Rows& shared = shared_memory<Rows>();
  const int t = threadIdx.x;
  for (int group = 0; group < 2; ++group) {  // two groups, the first waited for alone
    ptx::copy_async_16(shared.words[32 * group + t], g.in + 4 * (32 * group + t), g.in[256 + 32 * group + t] & 1);
    ptx::copy_async_commit();
  }
  ptx::copy_async_wait<1>();
  uint32_t first[4];
  for (int i = 0; i < 4; ++i) first[i] = shared.words[t][i];
  ptx::copy_async_wait<0>();
  __syncthreads();
  const int row = static_cast<int>(g.in[320 + t] % 64);
  const uint4 v = ptx::load_global_16(g.in + 4 * row);
  ptx::store_global_16(g.out + 12 * t, make_uint4(first[0], first[1], first[2], first[3]));
  ptx::store_global_16(g.out + 12 * t + 4, make_uint4(shared.words[63 - t][0], shared.words[63 - t][1], shared.words[63 - t][2], shared.words[63 - t][3]));
  ptx::store_global_16(g.out + 12 * t + 8, make_uint4(v.x, v.y, v.z, ptx::shared_address(shared.words[row]) - ptx::shared_address(shared.words[0])));
}

// Pairs to where the input says, quadruples from there.
__global__ void shared_vectors(Given g) {
  Rows& shared = shared_memory<Rows>();
  const int t = threadIdx.x;
  float* words = reinterpret_cast<float*>(shared.words);
  for (int i = 0; i < 2; ++i) {
    const int pair = 2 * ((32 * i + t) ^ static_cast<int>(g.in[128] % 64));  // each is named once
    ptx::store_shared_2(words + pair, __uint_as_float(g.in[64 * i + 2 * t]), __uint_as_float(g.in[64 * i + 2 * t + 1]));
  }
  __syncwarp();
  const float4 v = ptx::load_shared_4(words + 4 * (g.in[128 + t] % 32));
  ptx::store_global_16(g.out + 4 * t, make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)));
}

// Four blocks take tickets; the last one sees what the others left. Block 0 sends a word to block 1.
__global__ void order(Given g) {
  int* tickets = reinterpret_cast<int*>(g.out) + 8;
  int* flag = tickets + 1;
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) {
    g.out[5] = g.in[5];
    ptx::store_release(flag, 1);
  }
  if (blockIdx.x == 1) {
    while (ptx::load_acquire(flag) != 1) {
    }
    g.out[6] = g.out[5] ^ g.in[6];
  }
  g.out[blockIdx.x] = g.in[blockIdx.x];
  if (ptx::add_acquire_release(tickets, 1) == 2) {  // they begin at -1, as all of `out`
    uint32_t all = 0;
    for (int b = 0; b < 4; ++b) all ^= g.out[b];
    g.out[4] = all;
  }
}

// Warps 0 and 1 hand words to warps 2 and 3 through named barriers.
__global__ void barriers(Given g) {
  Rows& shared = shared_memory<Rows>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp < 2) {
    shared.words[32 * warp + lane][0] = g.in[threadIdx.x];
    ptx::barrier_arrive(1 + warp, 64);
  } else {
    ptx::barrier_sync(warp - 1, 64);
    g.out[threadIdx.x - 64] = shared.words[32 * (warp - 2) + 31 - lane][0];
  }
}

// ---- Hopper

constexpr int kMapRows = 64, kMapColumns = 128;  // of 2 bytes

struct Boxes {
  alignas(1024) uint16_t a[64 * 64], b[256 * 64];
  uint64_t barrier;
};

// A box that may lie partly outside, as it lands in shared memory, and written back to another place.
template <int kColumns>
__global__ void box(Given g, const __grid_constant__ TensorMap from, const __grid_constant__ TensorMap to) {
#ifdef LONGER_HOPPER
  Boxes& shared = shared_memory<Boxes>();
  const int t = threadIdx.x, row = static_cast<int>(g.in[0] % 64), column = static_cast<int>(g.in[1] % 16) * 8;
  if (t == 0) {
    ptx::mbarrier_init(&shared.barrier, 33);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  ptx::mbarrier_arrive(&shared.barrier);
  if (t == 0) {
    ptx::mbarrier_arrive_expect(&shared.barrier, 8 * kColumns * 2);
    ptx::tma_load_2d(shared.a, &from, &shared.barrier, column, row);
  }
  ptx::mbarrier_wait(&shared.barrier, 0);
  for (int i = t; i < 8 * kColumns / 2; i += 32) g.out[i] = reinterpret_cast<const uint32_t*>(shared.a)[i];
  __syncthreads();
  for (int i = t; i < 8 * kColumns; i += 32) shared.a[i] ^= 0x5a5a;
  ptx::async_proxy_fence();
  __syncthreads();
  if (t == 0) {
    ptx::tma_store_2d(&to, shared.a, column, 63 - row);
    ptx::tma_store_commit();
    ptx::tma_store_wait_read<0>();
  }
#endif
}

// With one block to a multiprocessor asked for: else ptxas does not know how many registers a thread begins with, and leaves setmaxnreg out.
template <int kColumns, bool kTransposeA, bool kTransposeB, bool kHalf>
__global__ void __launch_bounds__(256, 1) warpgroup(Given g, const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b) {
#ifdef LONGER_WGMMA
  Boxes& shared = shared_memory<Boxes>();
  const int t = threadIdx.x;
  if (t == 0) {
    ptx::mbarrier_init(&shared.barrier, 1);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (t >= 128) {  // asks for the tiles
    ptx::registers_shrink<40>();
    if (t != 128) return;
    ptx::mbarrier_arrive_expect(&shared.barrier, (64 + kColumns) * 64 * 2);
    ptx::tma_load_2d(shared.a, &map_a, &shared.barrier, 0, 0);
    for (int c = 0; c < (kTransposeB ? kColumns : 64); c += 64) ptx::tma_load_2d(shared.b + c * 64, &map_b, &shared.barrier, c, 0);
    return;
  }
  ptx::registers_grow<160>();
  ptx::mbarrier_wait(&shared.barrier, 0);
  float d[kColumns / 2];
  ptx::wgmma_fence();
  for (int k = 0; k < 64; k += 16) {
    const uint32_t at_a = ptx::shared_address(shared.a), at_b = ptx::shared_address(shared.b);
    const uint64_t a = kTransposeA ? matrix_descriptor(at_a + k * 128, 64 * 128, 1024, Swizzle::b128) : matrix_descriptor(at_a + k * 2, 16, 1024, Swizzle::b128);
    const uint64_t b = kTransposeB ? matrix_descriptor(at_b + k * 128, 64 * 128, 1024, Swizzle::b128) : matrix_descriptor(at_b + k * 2, 16, 1024, Swizzle::b128);
    if constexpr (kHalf) ptx::wgmma_f16<kTransposeA, kTransposeB>(d, a, b, k > 0);
    else ptx::wgmma_bf16<kTransposeA, kTransposeB>(d, a, b, k > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (int i = 0; i < kColumns / 2; ++i) g.out[t * kColumns / 2 + i] = __float_as_uint(d[i]);
#endif
}

// ---- the table. `run` starts the kernel on words that the device reads.

struct Entry {
  Case about;
  void (*run)(Given g, Stream stream);
};

template <int kColumns>
void run_box(Given g, Stream stream) {
  const Swizzle swizzle = kColumns == 64 ? Swizzle::b128 : kColumns == 32 ? Swizzle::b64 : kColumns == 16 ? Swizzle::b32 : Swizzle::none;
  const auto map = [&](const void* matrix) { return tensor_map_2d(matrix, kMapRows, kMapColumns, kMapColumns * 2, 8, kColumns, swizzle); };
  launch(stream, "box", box<kColumns>, dim3(1), dim3(32), sizeof(Boxes), g, map(g.in + 4), map(g.out + 4 * kColumns));
}

template <int kColumns, bool kTransposeA, bool kTransposeB, bool kHalf>
void run_warpgroup(Given g, Stream stream) {
  const TensorMap a = tensor_map_2d(g.in, 64, 64, 128, 64, 64, Swizzle::b128);
  const TensorMap b = kTransposeB ? tensor_map_2d(g.in + 2048, 64, kColumns, kColumns * 2, 64, 64, Swizzle::b128)
                                  : tensor_map_2d(g.in + 2048, kColumns, 64, 128, kColumns, 64, Swizzle::b128);
  launch(stream, "warpgroup", warpgroup<kColumns, kTransposeA, kTransposeB, kHalf>, dim3(1), dim3(256), sizeof(Boxes), g, a, b);
}

template <void (*kKernel)(Given), int kBlocks, int kThreads>
void run_plain(Given g, Stream stream) { launch(stream, "conformance", kKernel, dim3(kBlocks), dim3(kThreads), sizeof(Rows), g); }

const Entry kEntries[] = {
    {{"pack_bf16", Fill::bits, Compare::nan_pair, 512, 256, 80}, run_plain<number<Number::pack_bf16>, 1, 256>},
    {{"pack_f16", Fill::bits, Compare::nan_pair, 512, 256, 80}, run_plain<number<Number::pack_f16>, 1, 256>},
    {{"pack_f16, in range", Fill::numbers, Compare::bits, 512, 256, 80}, run_plain<number<Number::pack_f16>, 1, 256>},
    {{"f16_to_float", Fill::bits, Compare::nan, 512, 256, 80}, run_plain<number<Number::f16_to_float>, 1, 256>},
    {{"to_tf32", Fill::bits, Compare::nan, 512, 256, 80}, run_plain<number<Number::to_tf32>, 1, 256>},
    {{"exp2_approx", Fill::numbers, Compare::approx, 512, 256, 80}, run_plain<number<Number::exp2>, 1, 256>},
    {{"exp2_approx, any", Fill::bits, Compare::approx, 512, 256, 80}, run_plain<number<Number::exp2>, 1, 256>},
    {{"ldmatrix_x4", Fill::bits, Compare::bits, 288, 128, 80}, run_plain<matrix<Matrix::x4>, 1, 32>},
    {{"ldmatrix_x4_trans", Fill::bits, Compare::bits, 288, 128, 80}, run_plain<matrix<Matrix::x4_trans>, 1, 32>},
    {{"ldmatrix_x2", Fill::bits, Compare::bits, 288, 128, 80}, run_plain<matrix<Matrix::x2>, 1, 32>},
    {{"ldmatrix_x2_trans", Fill::bits, Compare::bits, 288, 128, 80}, run_plain<matrix<Matrix::x2_trans>, 1, 32>},
    {{"stmatrix_x4", Fill::bits, Compare::bits, 513, 256, 90}, run_plain<matrix<Matrix::store>, 1, 32>},
    {{"stmatrix_x4_trans", Fill::bits, Compare::bits, 513, 256, 90}, run_plain<matrix<Matrix::store_trans>, 1, 32>},
    {{"mma_bf16, exact", Fill::whole_bf16, Compare::bits, 320, 128, 80}, run_plain<product<Kind::bf16>, 1, 32>},
    {{"mma_bf16", Fill::halves, Compare::sum, 320, 128, 80}, run_plain<product<Kind::bf16>, 1, 32>},
    {{"mma_f16, exact", Fill::whole_f16, Compare::bits, 320, 128, 80}, run_plain<product<Kind::f16>, 1, 32>},
    {{"mma_f16", Fill::halves, Compare::sum, 320, 128, 80}, run_plain<product<Kind::f16>, 1, 32>},
    {{"mma_tf32, exact", Fill::whole, Compare::bits, 320, 128, 80}, run_plain<product<Kind::tf32>, 1, 32>},
    {{"mma_tf32", Fill::numbers, Compare::sum, 320, 128, 80}, run_plain<product<Kind::tf32>, 1, 32>},
    {{"shuffles and votes", Fill::bits, Compare::bits, 67, 256, 80}, run_plain<warp, 1, 32>},
    {{"copy_async, 16-byte loads and stores", Fill::bits, Compare::bits, 352, 384, 80}, run_plain<copies, 1, 32>},
    {{"shared memory, 8- and 16-byte vectors", Fill::bits, Compare::bits, 160, 128, 80}, run_plain<shared_vectors, 1, 32>},
    {{"acquire, release, tickets", Fill::bits, Compare::bits, 7, 10, 80}, run_plain<order, 4, 32>},
    {{"named barriers", Fill::bits, Compare::bits, 64, 64, 80}, run_plain<barriers, 1, 128>},
    {{"TMA, no swizzle", Fill::bits, Compare::bits, 4 + 4096, 32 + 4096, 90}, run_box<8>},
    {{"TMA, 32-byte swizzle", Fill::bits, Compare::bits, 4 + 4096, 64 + 4096, 90}, run_box<16>},
    {{"TMA, 64-byte swizzle", Fill::bits, Compare::bits, 4 + 4096, 128 + 4096, 90}, run_box<32>},
    {{"TMA, 128-byte swizzle", Fill::bits, Compare::bits, 4 + 4096, 256 + 4096, 90}, run_box<64>},
    {{"wgmma_bf16 64, exact", Fill::whole_bf16, Compare::bits, 4096, 4096, 900}, run_warpgroup<64, false, false, false>},
    {{"wgmma_bf16 64, transposed, exact", Fill::whole_bf16, Compare::bits, 4096, 4096, 900}, run_warpgroup<64, true, true, false>},
    {{"wgmma_bf16 128, exact", Fill::whole_bf16, Compare::bits, 6144, 8192, 900}, run_warpgroup<128, false, false, false>},
    {{"wgmma_bf16 128, b transposed", Fill::halves, Compare::sum, 6144, 8192, 900}, run_warpgroup<128, false, true, false>},
    {{"wgmma_bf16 256, exact", Fill::whole_bf16, Compare::bits, 10240, 16384, 900}, run_warpgroup<256, false, false, false>},
    {{"wgmma_bf16 256, b transposed, exact", Fill::whole_bf16, Compare::bits, 10240, 16384, 900}, run_warpgroup<256, false, true, false>},
    {{"wgmma_bf16 128, both transposed, exact", Fill::whole_bf16, Compare::bits, 6144, 8192, 900}, run_warpgroup<128, true, true, false>},
    {{"wgmma_f16 256, b transposed", Fill::halves, Compare::sum, 10240, 16384, 900}, run_warpgroup<256, false, true, true>},
    {{"wgmma_f16 64, exact", Fill::whole_f16, Compare::bits, 4096, 4096, 900}, run_warpgroup<64, false, false, true>},
    {{"wgmma_f16 128, a transposed", Fill::halves, Compare::sum, 6144, 8192, 900}, run_warpgroup<128, true, false, true>},
};

constexpr int kEntryCount = sizeof kEntries / sizeof kEntries[0];

}  // namespace
