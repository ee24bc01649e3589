// The functions of csrc/kernels/cuda/ptx.cuh for g++. What a lane itself reads or writes is done here, in code that the
// sanitizers watch; what a warp or an engine does together is in ptx.cpp and hopper.cpp.
#pragma once
#include "kernels/cuda/tensor_map.h"
#include "simt/cuda.h"

namespace simt {

void exchange_matrices(uint32_t (*rows)[4], int matrices, bool transposed, bool store, uint32_t* registers, Site site);
enum class Product { bf16, f16, tf32 };
void mma(float* d, const uint32_t* a, const uint32_t* b, Product kind, Site site);
uint32_t f32_to_f16(float value);
float f16_to_f32(uint32_t bits);
uint32_t f32_to_bf16(float value);

void mbarrier_init(uint64_t* barrier, int arrivals, Site site);
void mbarrier_arrive(uint64_t* barrier, int expected_bytes, Site site);
void mbarrier_wait(uint64_t* barrier, int parity, Site site);
void tma_load(void* shared, const longer::TensorMap* map, uint64_t* barrier, int col, int row, Site site);
void tma_store(const longer::TensorMap* map, const void* shared, int col, int row, Site site);
void tma_store_commit();
void tma_store_wait(int left);
void wgmma(float* d, int columns, uint64_t a, uint64_t b, bool add, bool transpose_a, bool transpose_b, Product kind, Site site);
void wgmma_fence(Site site);
void wgmma_commit(Site site);
void wgmma_wait(int left, Site site);
void set_registers(int count, Site site);

inline void check_aligned(const void* address, size_t to, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % to) fail("a misaligned address", site);
}

}  // namespace simt

namespace longer::ptx {

inline uint32_t shared_address(const void* pointer) { return simt::shared_offset(pointer); }

inline uint32_t pack_bf16(float low, float high) { return simt::f32_to_bf16(low) | simt::f32_to_bf16(high) << 16; }
inline uint32_t pack_f16(float low, float high) { return simt::f32_to_f16(low) | simt::f32_to_f16(high) << 16; }
inline float f16_to_float(uint16_t bits) { return simt::f16_to_f32(bits); }
inline uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}
inline float exp2_approx(float x) { return exp2f(x); }

template <int kMatrices, bool kTransposed>
inline void load_matrices(uint32_t* r, const void* row, simt::Site site) {
  uint32_t words[4] = {};
  if (simt::current->lane < 8 * kMatrices) {
    simt::check_aligned(row, 16, site);
    simt::shared_offset(row);
    std::memcpy(words, row, 16);
    simt::count_shared(row, 16, site.file, site.line);
  }
  simt::exchange_matrices(&words, kMatrices, kTransposed, false, r, site);
}
template <bool kTransposed>
inline void store_matrices(void* row, const uint32_t* r, simt::Site site) {
  uint32_t words[4], registers[4] = {r[0], r[1], r[2], r[3]};
  simt::check_aligned(row, 16, site);
  simt::shared_offset(row);
  simt::exchange_matrices(&words, 4, kTransposed, true, registers, site);
  std::memcpy(row, words, 16);
  simt::count_shared(row, 16, site.file, site.line);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_HERE) { load_matrices<4, false>(r, row, {"ldmatrix.x4", file, line}); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SIMT_HERE) { load_matrices<4, true>(r, row, {"ldmatrix.x4.trans", file, line}); }
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, SIMT_HERE) { load_matrices<2, false>(r, row, {"ldmatrix.x2", file, line}); }
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, SIMT_HERE) { load_matrices<2, true>(r, row, {"ldmatrix.x2.trans", file, line}); }
inline void stmatrix_x4(void* row, const uint32_t (&r)[4], SIMT_HERE) { store_matrices<false>(row, r, {"stmatrix.x4", file, line}); }
inline void stmatrix_x4_trans(void* row, const uint32_t (&r)[4], SIMT_HERE) { store_matrices<true>(row, r, {"stmatrix.x4.trans", file, line}); }

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_HERE) {
  const uint32_t b[2] = {b0, b1};
  simt::mma(d, a, b, simt::Product::bf16, {"mma.bf16", file, line});
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_HERE) {
  const uint32_t b[2] = {b0, b1};
  simt::mma(d, a, b, simt::Product::f16, {"mma.f16", file, line});
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_HERE) {
  const uint32_t b[2] = {b0, b1};
  simt::mma(d, a, b, simt::Product::tf32, {"mma.tf32", file, line});
}

inline uint4 load_global_16(const void* address, SIMT_HERE) {
  simt::check_aligned(address, 16, {"ld.global.v4", file, line});
  uint4 v;
  std::memcpy(&v, address, 16);
  simt::count_global(address, 16, false, file, line);
  return v;
}
inline void store_global_16(void* address, uint4 v, SIMT_HERE) {
  simt::check_aligned(address, 16, {"st.global.v4", file, line});
  std::memcpy(address, &v, 16);
  simt::count_global(address, 16, true, file, line);
}

inline void store_shared_2(float* address, float first, float second, SIMT_HERE) {
  simt::check_aligned(address, 8, {"st.shared.v2", file, line});
  simt::shared_offset(address + 1);
  address[0] = first, address[1] = second;
  simt::count_shared(address, 8, file, line);
}
inline float4 load_shared_4(const float* address, SIMT_HERE) {
  simt::check_aligned(address, 16, {"ld.shared.v4", file, line});
  simt::shared_offset(address + 3);
  simt::count_shared(address, 16, file, line);
  return {address[0], address[1], address[2], address[3]};
}

inline void copy_async_16(void* shared, const void* global, bool valid = true, SIMT_HERE) {
  simt::check_aligned(shared, 16, {"cp.async", file, line});
  simt::check_aligned(global, 16, {"cp.async", file, line});
  simt::shared_offset(shared);
  if (valid) simt::count_global(global, 16, false, file, line);
  simt::async_copy({shared, global, 16, valid ? 16 : 0});
}
inline void copy_async_commit() { simt::async_commit(); }
template <int kLeft>
inline void copy_async_wait() { simt::async_wait(kLeft); }

inline int load_acquire(const int* address) {
  simt::preempt();
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
inline void store_release(int* address, int value) {
  simt::preempt();
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
inline int add_acquire_release(int* address, int value) {
  simt::preempt();
  return __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL);
}

inline void barrier_sync(int id, int threads, SIMT_HERE) { simt::sync_named(id, threads, true, {"bar.sync", file, line}); }
inline void barrier_arrive(int id, int threads, SIMT_HERE) { simt::sync_named(id, threads, false, {"bar.arrive", file, line}); }

// A barrier's word is written by init and looked at by everyone else: TSan then sees who came before the init did.
inline void mbarrier_init(uint64_t* barrier, int arrivals, SIMT_HERE) {
  *barrier = 0;
  simt::mbarrier_init(barrier, arrivals, {"mbarrier.init", file, line});
}
inline void mbarrier_init_fence() {}
inline void mbarrier_arrive(uint64_t* barrier, SIMT_HERE) {
  (void)__atomic_load_n(barrier, __ATOMIC_RELAXED);
  simt::mbarrier_arrive(barrier, 0, {"mbarrier.arrive", file, line});
}
inline void mbarrier_arrive_expect(uint64_t* barrier, int bytes, SIMT_HERE) {
  (void)__atomic_load_n(barrier, __ATOMIC_RELAXED);
  simt::mbarrier_arrive(barrier, bytes, {"mbarrier.arrive.expect_tx", file, line});
}
inline void mbarrier_wait(uint64_t* barrier, int parity, SIMT_HERE) {
  (void)__atomic_load_n(barrier, __ATOMIC_RELAXED);
  simt::mbarrier_wait(barrier, parity, {"mbarrier.wait", file, line});
}
inline void async_proxy_fence() {}
inline void tma_load_2d(void* shared, const TensorMap* map, uint64_t* barrier, int col, int row, SIMT_HERE) {
  (void)__atomic_load_n(barrier, __ATOMIC_RELAXED);
  simt::tma_load(shared, map, barrier, col, row, {"tma load", file, line});
}
inline void tma_store_2d(const TensorMap* map, const void* shared, int col, int row, SIMT_HERE) {
  simt::tma_store(map, shared, col, row, {"tma store", file, line});
}
inline void tma_store_commit() { simt::tma_store_commit(); }
template <int kLeft>
inline void tma_store_wait_read() { simt::tma_store_wait(kLeft); }

template <int kRegisters>
inline void registers_grow(SIMT_HERE) { simt::set_registers(kRegisters, {"setmaxnreg.inc", file, line}); }
template <int kRegisters>
inline void registers_shrink(SIMT_HERE) { simt::set_registers(kRegisters, {"setmaxnreg.dec", file, line}); }

inline void wgmma_fence(SIMT_HERE) { simt::wgmma_fence({"wgmma.fence", file, line}); }
inline void wgmma_commit(SIMT_HERE) { simt::wgmma_commit({"wgmma.commit", file, line}); }
template <int kLeft>
inline void wgmma_wait(SIMT_HERE) { simt::wgmma_wait(kLeft, {"wgmma.wait", file, line}); }
template <int kCount>
inline void wgmma_keep(float (&)[kCount]) {}
template <bool kTransposeA, bool kTransposeB, int kRegisters>
inline void wgmma_bf16(float (&d)[kRegisters], uint64_t a, uint64_t b, bool add, SIMT_HERE) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128, "64, 128 or 256 columns");
  simt::wgmma(d, 2 * kRegisters, a, b, add, kTransposeA, kTransposeB, simt::Product::bf16, {"wgmma.bf16", file, line});
}
template <bool kTransposeA, bool kTransposeB, int kRegisters>
inline void wgmma_f16(float (&d)[kRegisters], uint64_t a, uint64_t b, bool add, SIMT_HERE) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128, "64, 128 or 256 columns");
  simt::wgmma(d, 2 * kRegisters, a, b, add, kTransposeA, kTransposeB, simt::Product::f16, {"wgmma.f16", file, line});
}

}  // namespace longer::ptx
