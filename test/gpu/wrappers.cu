// Every function of ptx.cuh once, so that ptxas sees each instruction (npm run check:ptxas). Compiled, never launched: what
// the instructions do is for hardware to show.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace longer {

namespace {

struct Smem {
  uint32_t words[4096];
  uint64_t barrier;
};

__global__ void numbers(uint32_t* out, const float* in) {
  const float a = in[threadIdx.x], b = in[threadIdx.x + 32];
  const uint32_t pair = ptx::pack_f16(a, b);
  out[threadIdx.x] = ptx::pack_bf16(a, b) ^ pair ^ ptx::to_tf32(a) ^ __float_as_uint(ptx::f16_to_float(static_cast<uint16_t>(pair))) ^
                     __float_as_uint(ptx::exp2_approx(b));
}

__global__ void matrices(float* out) {
  Smem& shared = shared_memory<Smem>();
  uint32_t four[4], turned[4], two[2], two_turned[2];
  uint32_t* row = shared.words + threadIdx.x % 32 * 4;
  ptx::ldmatrix_x4(four, row);
  ptx::ldmatrix_x4_trans(turned, row + 128);
  ptx::ldmatrix_x2(two, row);
  ptx::ldmatrix_x2_trans(two_turned, row + 128);
  float d[4] = {};
  ptx::mma_bf16(d, four, two[0], two[1]);
  ptx::mma_f16(d, turned, two_turned[0], two_turned[1]);
  ptx::mma_tf32(d, four, two_turned[0], two[1]);
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = d[i];
}

__global__ void memory(uint4* out, const uint4* in, int* flags) {
  Smem& shared = shared_memory<Smem>();
  uint32_t* mine = shared.words + threadIdx.x * 4;
  ptx::copy_async_16(mine, in + threadIdx.x, threadIdx.x < 16);
  ptx::copy_async_commit();
  ptx::copy_async_wait<0>();
  ptx::barrier_arrive(1, 64);
  ptx::barrier_sync(2, 32);
  ptx::store_shared_2(reinterpret_cast<float*>(mine), 1.f, 2.f);
  uint4 v = ptx::load_global_16(in + threadIdx.x);
  v.z ^= __float_as_uint(ptx::load_shared_4(reinterpret_cast<const float*>(mine)).w);
  v.x ^= mine[0] ^ ptx::shared_address(mine);
  v.y ^= static_cast<uint32_t>(ptx::load_acquire(flags) + ptx::add_acquire_release(flags + 1, 1));
  ptx::store_release(flags + 2, 1);
  ptx::store_global_16(out + threadIdx.x, v);
}

__global__ void hopper(const __grid_constant__ TensorMap map, uint32_t* out) {
#if __CUDA_ARCH__ >= 900
  Smem& shared = shared_memory<Smem>();
  if (threadIdx.x == 0) ptx::mbarrier_init(&shared.barrier, 2);
  ptx::mbarrier_init_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect(&shared.barrier, 1024);
    ptx::tma_load_2d(shared.words, &map, &shared.barrier, 0, 0);
    ptx::mbarrier_arrive(&shared.barrier);
  }
  ptx::mbarrier_wait(&shared.barrier, 0);
  const uint32_t r[4] = {out[0], out[1], out[2], out[3]};
  ptx::stmatrix_x4(shared.words + threadIdx.x * 4, r);
  ptx::stmatrix_x4_trans(shared.words + 128 + threadIdx.x * 4, r);
  ptx::async_proxy_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_store_2d(&map, shared.words, 0, 0);
    ptx::tma_store_commit();
    ptx::tma_store_wait_read<0>();
  }
#endif
}

template <int kColumns, bool kTransposeA, bool kTransposeB>
__device__ void multiply(float* out, uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  float d[kColumns / 2] = {};
  ptx::wgmma_fence();
  ptx::wgmma_bf16<kTransposeA, kTransposeB>(d, a, b, false);
  ptx::wgmma_f16<kTransposeA, kTransposeB>(d, a, b, true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(d);
  for (int i = 0; i < kColumns / 2; ++i) out[threadIdx.x * kColumns / 2 + i] = d[i];
#endif
}

__global__ void __launch_bounds__(128, 1) warpgroups(float* out, uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  ptx::registers_shrink<200>();
  ptx::registers_grow<240>();
#endif
  multiply<64, false, false>(out, a, b);
  multiply<64, true, true>(out, a, b);
  multiply<128, false, true>(out, a, b);
  multiply<128, true, false>(out, a, b);
}

__global__ void __launch_bounds__(128, 1) wide_warpgroup(float* out, uint64_t a, uint64_t b) { multiply<256, false, true>(out, a, b); }

}  // namespace

// What keeps the kernels in the file.
void launch_wrappers(Stream stream, TensorMap map, float* numbers_in, uint32_t* words) {
  launch(stream, "numbers", numbers, dim3(1), dim3(32), 0, words, numbers_in);
  launch(stream, "matrices", matrices, dim3(1), dim3(32), sizeof(Smem), numbers_in);
  launch(stream, "memory", memory, dim3(1), dim3(32), sizeof(Smem), reinterpret_cast<uint4*>(words), reinterpret_cast<const uint4*>(numbers_in),
         reinterpret_cast<int*>(words));
  launch(stream, "hopper", hopper, dim3(1), dim3(32), sizeof(Smem), map, words);
  launch(stream, "warpgroups", warpgroups, dim3(1), dim3(128), 0, numbers_in, uint64_t{0}, uint64_t{0});
  launch(stream, "wide warpgroup", wide_warpgroup, dim3(1), dim3(128), 0, numbers_in, uint64_t{0}, uint64_t{0});
}

}  // namespace longer
