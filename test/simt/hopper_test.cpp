// The functions of ptx.cuh that Hopper brought, TMA and wgmma, against products and copies that are computed here.
#include "simt/wrappers.h"

using namespace longer;
using simt::bits;
using simt::encode;
using simt::expect;
using simt::run;
using simt::small;
using simt::Type;
using simt::Verdict;
using simt::WideSmem;

namespace {

// A box lands where the swizzle says, zeros come from outside; and the way back.
void tma(Swizzle swizzle, int box_cols) {
  const int rows = 13, cols = 72, box_rows = 8;
  alignas(16) static uint16_t matrix[13 * 72], back[13 * 72];
  for (auto& v : matrix) v = static_cast<uint16_t>(bits() | 1);
  std::memset(back, 0, sizeof back);
  const TensorMap map = tensor_map_2d(matrix, rows, cols, cols * 2, box_rows, box_cols, swizzle);
  const TensorMap target = tensor_map_2d(back, rows, cols, cols * 2, box_rows, box_cols, swizzle);
  const int row = 8, col = cols - box_cols + 8;
  Verdict right = true;
  run(1, 32, sizeof(WideSmem), [&] {
    auto& s = shared_memory<WideSmem>();
    if (threadIdx.x == 0) {
      ptx::mbarrier_init(&s.barrier[0], 1);
      ptx::mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      ptx::mbarrier_arrive_expect(&s.barrier[0], box_rows * box_cols * 2);
      ptx::tma_load_2d(&s.tile, &map, &s.barrier[0], col, row);
    }
    ptx::mbarrier_wait(&s.barrier[0], 0);
    for (int i = threadIdx.x; i < box_rows * box_cols; i += 32) {
      const int y = i / box_cols, x = i % box_cols;
      uint32_t byte = i * 2;  // figures of the CUDA guide: 16-byte chunk c of a 128-byte line l goes to chunk c ^ (l mod 8), and so on
      const uint32_t line = byte / 128, chunk = byte / 16 % 8;
      const uint32_t moved = swizzle == Swizzle::b128 ? chunk ^ line % 8 : swizzle == Swizzle::b64 ? chunk ^ line % 4 : swizzle == Swizzle::b32 ? chunk ^ line % 2 : chunk;
      byte = line * 128 + moved * 16 + byte % 16;
      const bool inside = row + y < rows && col + x < cols;
      right = right && reinterpret_cast<uint16_t*>(&s.tile)[byte / 2] == (inside ? matrix[(row + y) * cols + col + x] : 0);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      ptx::async_proxy_fence();
      ptx::tma_store_2d(&target, &s.tile, col, row);
      ptx::tma_store_commit();
      ptx::tma_store_wait_read<0>();
    }
  });
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < cols; ++x)
      right = right && back[y * cols + x] == (y >= row && x >= col && y < row + box_rows && x < col + box_cols ? matrix[y * cols + x] : 0);
  expect(right, "TMA, swizzle " + std::to_string(static_cast<int>(swizzle)));
}

// 64 x N x 64 product of two TMA-loaded tiles; B as N x K (its rows K-contiguous) or as K x N.
template <int kColumns, bool kTransposeB, bool kHalf>
void warpgroup_product() {
  constexpr int kDepth = 64;
  alignas(16) static uint16_t a[64 * kDepth], b[kColumns * kDepth];
  static float fa[64 * kDepth], fb[kColumns * kDepth], d[64 * kColumns];
  const Type type = kHalf ? Type::f16 : Type::bf16;
  for (int i = 0; i < 64 * kDepth; ++i) a[i] = static_cast<uint16_t>(encode(fa[i] = small(), type));
  for (int i = 0; i < kColumns * kDepth; ++i) b[i] = static_cast<uint16_t>(encode(fb[i] = small(), type));
  const int b_rows = kTransposeB ? kDepth : kColumns, b_cols = kTransposeB ? kColumns : kDepth;
  const TensorMap map_a = tensor_map_2d(a, 64, kDepth, kDepth * 2, 64, 64, Swizzle::b128);
  simt::counters() = {};
  const TensorMap map_b = tensor_map_2d(b, b_rows, b_cols, b_cols * 2, b_rows, 64, Swizzle::b128);
  struct Smem {
    alignas(1024) uint16_t a[64 * 64];
    alignas(1024) uint16_t b[kColumns * 64];
    uint64_t full;
  };
  run(1, 128, sizeof(Smem), [&] {
    auto& s = shared_memory<Smem>();
    if (threadIdx.x == 0) {
      ptx::mbarrier_init(&s.full, 1);
      ptx::mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      ptx::mbarrier_arrive_expect(&s.full, sizeof s.a + sizeof s.b);
      ptx::tma_load_2d(s.a, &map_a, &s.full, 0, 0);
      for (int c = 0; c < b_cols; c += 64) ptx::tma_load_2d(s.b + c * b_rows, &map_b, &s.full, c, 0);
    }
    ptx::mbarrier_wait(&s.full, 0);
    float acc[kColumns / 2];
    ptx::wgmma_fence();
    for (int k = 0; k < kDepth; k += 16) {
      const uint64_t da = matrix_descriptor(ptx::shared_address(s.a) + k * 2, 16, 1024, Swizzle::b128);
      const uint64_t db = kTransposeB ? matrix_descriptor(ptx::shared_address(s.b) + k * 128, 64 * 128, 1024, Swizzle::b128)
                                      : matrix_descriptor(ptx::shared_address(s.b) + k * 2, 16, 1024, Swizzle::b128);
      if constexpr (kHalf) ptx::wgmma_f16<false, kTransposeB>(acc, da, db, k > 0);
      else ptx::wgmma_bf16<false, kTransposeB>(acc, da, db, k > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    // PTX ISA, "register fragment layout for wgmma .m64nNk16 matrix D"
    const int t = threadIdx.x;
    for (int i = 0; i < kColumns / 2; ++i) {
      const int row = t / 32 * 16 + t % 32 / 4 + ((i / 2) % 2) * 8, col = i / 4 * 8 + (t % 4) * 2 + (i & 1);
      d[row * kColumns + col] = acc[i];
    }
  });
  bool equal = true;
  for (int r = 0; r < 64; ++r)
    for (int c = 0; c < kColumns; ++c) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += fa[r * kDepth + k] * (kTransposeB ? fb[k * kColumns + c] : fb[c * kDepth + k]);
      equal = equal && sum == d[r * kColumns + c];
    }
  expect(equal, "wgmma " + std::to_string(kColumns) + (kTransposeB ? " transposed" : ""));
}

}  // namespace

int main() {
  for (int round = 0; round < 4; ++round) {
    simt::options().schedule = round == 0 ? simt::Schedule::forward : round == 1 ? simt::Schedule::reverse : simt::Schedule::random;
    simt::options().seed = round;
    tma(Swizzle::none, 16);
    tma(Swizzle::none, 64);
    tma(Swizzle::b32, 16);
    tma(Swizzle::b64, 32);
    tma(Swizzle::b128, 64);
    warpgroup_product<64, false, false>();
    warpgroup_product<128, false, false>();
    warpgroup_product<128, true, false>();
    warpgroup_product<64, true, true>();
    warpgroup_product<256, false, false>();
    warpgroup_product<256, true, true>();
  }
  return simt::report("hopper_test " SIMT_TIER);
}
