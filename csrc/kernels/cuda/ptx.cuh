// Every PTX instruction for the kernels (most are not used yet), behind a named function; no asm elsewhere. g++ takes the functions of the
// same names that test/simt/ptx.h emulates, so that the kernels run, and are tested, where no GPU is.
//
// Fragments of a warp, with g = lane / 4 and t = lane % 4, as the PTX ISA lays them out:
//   mma m16n8k16   a[0] rows g, a[1] rows g + 8, a[2], a[3] the same 8 columns on: columns 2t, 2t+1 (+ 8)
//                  b[0] rows 2t, 2t+1, b[1] rows 2t+8, 2t+9, of column g
//                  d[0], d[1] row g, columns 2t, 2t+1;  d[2], d[3] row g + 8
//   mma m16n8k8    (tf32) a[0] row g col t, a[1] row g+8, a[2] col t+4, a[3] both; b[0] row t, b[1] row t+4 of column g
//   ldmatrix       lane i of register j's group of 8 lanes names row i % 8 of matrix j; register j of lane l receives row l / 4,
//                  columns 2 (l % 4) and the next; .trans gives rows and columns exchanged
//
// Lower 16 bits of a register are the lower column (or row). Shared addresses of ldmatrix and of 16-byte copies must be
// multiples of 16.
#pragma once
#include <cstdint>

#include "kernels/cuda/tensor_map.h"

#ifdef LONGER_SIMT
#include "simt/ptx.h"
#else
#include <cuda_runtime.h>

namespace longer::ptx {

#define LONGER_PTX __device__ __forceinline__

LONGER_PTX uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

// ---- numbers; rounding is to nearest even

LONGER_PTX uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
LONGER_PTX uint32_t pack_f16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
LONGER_PTX float f16_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
LONGER_PTX uint32_t to_tf32(float value) {  // to nearest, ties away from zero
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
LONGER_PTX float exp2_approx(float x) {  // 2 ulp
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- matrices

LONGER_PTX void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
LONGER_PTX void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
LONGER_PTX void ldmatrix_x2(uint32_t (&r)[2], const void* row) {  // lanes 16 to 31 name rows too, unused
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
LONGER_PTX void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

LONGER_PTX void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {  // d += a b
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LONGER_PTX void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LONGER_PTX void mma_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {  // m16n8k8
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- memory

LONGER_PTX uint4 load_global_16(const void* address) {  // read-only for the whole launch
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address));
  return v;
}
LONGER_PTX void store_global_16(void* address, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" :: "l"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// Neighbours in shared memory: 2 floats at a multiple of 8 bytes, 4 at one of 16.
LONGER_PTX void store_shared_2(float* address, float first, float second) {
  asm volatile("st.shared.v2.f32 [%0], {%1,%2};" :: "r"(shared_address(address)), "f"(first), "f"(second) : "memory");
}
LONGER_PTX float4 load_shared_4(const float* address) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(shared_address(address)) : "memory");
  return v;
}

// 16 bytes from global to shared memory, or 16 zeros; the destination is undefined until the wait.
LONGER_PTX void copy_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
LONGER_PTX void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
LONGER_PTX void copy_async_wait() {  // until all but the last kLeft groups of this thread have arrived
  asm volatile("cp.async.wait_group %0;" :: "n"(kLeft) : "memory");
}

// ---- order between blocks, at the scope of the device

LONGER_PTX int load_acquire(const int* address) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
LONGER_PTX void store_release(int* address, int value) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" :: "l"(address), "r"(value) : "memory");
}
LONGER_PTX int add_acquire_release(int* address, int value) {  // the value before
  int old;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;" : "=r"(old) : "l"(address), "r"(value) : "memory");
  return old;
}

// ---- named barriers, 1 to 15; `threads` counts those that wait and those that only arrive

LONGER_PTX void barrier_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory"); }
LONGER_PTX void barrier_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory"); }

// ---- Hopper and later: barriers in shared memory, the tensor memory accelerator

#if __CUDA_ARCH__ >= 900

LONGER_PTX void stmatrix_x4(void* row, const uint32_t (&r)[4]) {  // ldmatrix_x4 backwards
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};"
               :: "r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
LONGER_PTX void stmatrix_x4_trans(void* row, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
               :: "r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

LONGER_PTX void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
LONGER_PTX void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
LONGER_PTX void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(barrier)) : "memory");
}
LONGER_PTX void mbarrier_arrive_expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
}
LONGER_PTX void mbarrier_wait(uint64_t* barrier, int parity) {  // until the phase of this parity has ended
  uint32_t done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done) : "r"(shared_address(barrier)), "r"(parity) : "memory");
  } while (!done);
}
// Makes this thread's shared stores visible to TMA and wgmma; a barrier is needed as well.
LONGER_PTX void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

LONGER_PTX void tma_load_2d(void* shared, const TensorMap* map, uint64_t* barrier, int col, int row) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
               :: "r"(shared_address(shared)), "l"(map), "r"(shared_address(barrier)), "r"(col), "r"(row) : "memory");
}
LONGER_PTX void tma_store_2d(const TensorMap* map, const void* shared, int col, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];"
               :: "l"(map), "r"(shared_address(shared)), "r"(col), "r"(row) : "memory");
}
LONGER_PTX void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kLeft>
LONGER_PTX void tma_store_wait_read() {  // until the sources of all but the last kLeft groups may be reused
  asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(kLeft) : "memory");
}

#endif

// ---- sm_90a only: warpgroup matrix multiply. d[4 j + r] of warp w and lane l is row 16 w + l / 4 + (r & 2 ? 8 : 0),
// column 8 j + 2 (l % 4) + (r & 1). d is undefined from the call to the wait.

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <int kRegisters>
LONGER_PTX void registers_grow() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(kRegisters)); }
template <int kRegisters>
LONGER_PTX void registers_shrink() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(kRegisters)); }

LONGER_PTX void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
LONGER_PTX void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kLeft>
LONGER_PTX void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(kLeft) : "memory"); }

// Nothing that reads or writes d is moved across this by the compiler, which does not know that wgmma writes it until the wait.
template <int kCount>
LONGER_PTX void wgmma_keep(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}

// wgmma_bf16 and wgmma_f16: d += a b, or d = a b, of 64 rows, 16 of depth and 64, 128 or 256 columns.
#define LONGER_R10(tens) "%" #tens "0,%" #tens "1,%" #tens "2,%" #tens "3,%" #tens "4,%" #tens "5,%" #tens "6,%" #tens "7,%" #tens "8,%" #tens "9"
#define LONGER_R30 LONGER_R10() "," LONGER_R10(1) "," LONGER_R10(2)
#define LONGER_R60 LONGER_R30 "," LONGER_R10(3) "," LONGER_R10(4) "," LONGER_R10(5)
#define LONGER_R120 LONGER_R60 "," LONGER_R10(6) "," LONGER_R10(7) "," LONGER_R10(8) "," LONGER_R10(9) "," LONGER_R10(10) "," LONGER_R10(11)
#define LONGER_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LONGER_D32(i) LONGER_D8(i), LONGER_D8(i + 8), LONGER_D8(i + 16), LONGER_D8(i + 24)
#define LONGER_WGMMA(name, type, count, columns, list, a_at, b_at, add_at, ta_at, tb_at, ...)                                                  \
  template <bool kTransposeA, bool kTransposeB>                                                                                               \
  LONGER_PTX void name(float (&d)[count], uint64_t a, uint64_t b, bool add) {                                                                 \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #add_at ", 0; wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " {"   \
                 list "}, %" #a_at ", %" #b_at ", p, 1, 1, %" #ta_at ", %" #tb_at "; }"                                                       \
                 : __VA_ARGS__                                                                                                                \
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kTransposeA ? 1 : 0), "n"(kTransposeB ? 1 : 0));                           \
  }
#define LONGER_WGMMA_OF(name, type)                                                                                                            \
  LONGER_WGMMA(name, type, 32, 64, LONGER_R30 ",%30,%31", 32, 33, 34, 35, 36, LONGER_D32(0))                                                  \
  LONGER_WGMMA(name, type, 64, 128, LONGER_R60 ",%60,%61,%62,%63", 64, 65, 66, 67, 68, LONGER_D32(0), LONGER_D32(32))                         \
  LONGER_WGMMA(name, type, 128, 256, LONGER_R120 ",%120,%121,%122,%123,%124,%125,%126,%127", 128, 129, 130, 131, 132, LONGER_D32(0),          \
               LONGER_D32(32), LONGER_D32(64), LONGER_D32(96))
LONGER_WGMMA_OF(wgmma_bf16, "bf16")
LONGER_WGMMA_OF(wgmma_f16, "f16")
#undef LONGER_WGMMA_OF
#undef LONGER_WGMMA
#undef LONGER_D32
#undef LONGER_D8
#undef LONGER_R120
#undef LONGER_R60
#undef LONGER_R30
#undef LONGER_R10

#endif

#undef LONGER_PTX

}  // namespace longer::ptx
#endif
