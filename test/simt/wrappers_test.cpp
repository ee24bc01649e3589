// Each function of ptx.cuh against a table that is computed here, naively, from the PTX ISA's text; those of Hopper are in
// hopper_test.cpp.
#include "simt/wrappers.h"

using namespace longer;
using simt::bits;
using simt::encode;
using simt::expect;
using simt::run;
using simt::small;
using simt::Tile;
using simt::Type;
using simt::Verdict;
using simt::WideSmem;

namespace {

// PTX ISA 9.7.14.5, "Matrix fragments for mma.m16n8k16 with floating point type"
int row_of_a(int lane, int i) { const int group = lane >> 2; return (i < 2 || (i >= 4 && i < 6)) ? group : group + 8; }
int col_of_a(int lane, int i) { const int in_group = lane % 4; return i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8; }
int row_of_b(int lane, int i) { const int in_group = lane % 4; return i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8; }
int col_of_b(int lane) { return lane >> 2; }
int row_of_c(int lane, int i) { return i < 2 ? lane >> 2 : (lane >> 2) + 8; }
int col_of_c(int lane, int i) { return (lane % 4) * 2 + (i & 1); }

void mma_table(Type type) {
  const int depth = type == Type::tf32 ? 8 : 16;
  std::vector<float> a(16 * depth), b(depth * 8), c(16 * 8), d(16 * 8);
  for (float& v : a) v = small();
  for (float& v : b) v = small();
  for (float& v : c) v = small();
  run(1, 32, 0, [&] {
    const int lane = threadIdx.x;
    uint32_t ra[4] = {}, rb[2] = {};
    float rd[4];
    if (type == Type::tf32) {  // m16n8k8: a0 (g, t) a1 (g+8, t) a2 (g, t+4) a3 (g+8, t+4); b0 (t, g) b1 (t+4, g)
      const int g = lane >> 2, t = lane % 4;
      for (int i = 0; i < 4; ++i) ra[i] = encode(a[((i == 0 || i == 2) ? g : g + 8) * depth + (i < 2 ? t : t + 4)], type);
      for (int i = 0; i < 2; ++i) rb[i] = encode(b[(i == 0 ? t : t + 4) * 8 + g], type);
    } else {
      for (int i = 0; i < 8; ++i) ra[i / 2] |= encode(a[row_of_a(lane, i) * depth + col_of_a(lane, i)], type) << (16 * (i % 2));
      for (int i = 0; i < 4; ++i) rb[i / 2] |= encode(b[row_of_b(lane, i) * 8 + col_of_b(lane)], type) << (16 * (i % 2));
    }
    for (int i = 0; i < 4; ++i) rd[i] = c[row_of_c(lane, i) * 8 + col_of_c(lane, i)];
    if (type == Type::bf16) ptx::mma_bf16(rd, ra, rb[0], rb[1]);
    if (type == Type::f16) ptx::mma_f16(rd, ra, rb[0], rb[1]);
    if (type == Type::tf32) ptx::mma_tf32(rd, ra, rb[0], rb[1]);
    for (int i = 0; i < 4; ++i) d[row_of_c(lane, i) * 8 + col_of_c(lane, i)] = rd[i];
  });
  bool equal = true;
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n) {
      float sum = c[r * 8 + n];
      for (int k = 0; k < depth; ++k) sum += a[r * depth + k] * b[k * 8 + n];
      equal = equal && sum == d[r * 8 + n];
    }
  expect(equal, "mma");
}

void ldmatrix_table() {
  std::vector<uint16_t> memory(64 * 64);
  for (auto& v : memory) v = static_cast<uint16_t>(bits());
  Verdict plain = true, transposed = true, pair = true, stored = true, stored_transposed = true;
  run(1, 32, sizeof(WideSmem), [&] {
    auto& s = shared_memory<WideSmem>();
    const int lane = threadIdx.x;
    for (int i = lane; i < 64 * 64; i += 32) s.tile.at[i / 64][i % 64] = memory[i];
    __syncwarp();
    uint32_t r[4], p[2];
    // matrix j is rows 8j.., columns 16 j..: every matrix somewhere else
    const auto row = [&](Tile& tile, int l) { return &tile.at[8 * (l / 8) + l % 8][16 * (l / 8)]; };
    const auto element = [&](int j, int y, int x) { return memory[(8 * j + y) * 64 + 16 * j + x]; };
    ptx::ldmatrix_x4(r, row(s.tile, lane));
    for (int j = 0; j < 4; ++j)
      plain = plain && r[j] == (element(j, lane / 4, 2 * (lane % 4)) | uint32_t{element(j, lane / 4, 2 * (lane % 4) + 1)} << 16);
    ptx::stmatrix_x4(row(s.other, lane), r);
    __syncwarp();
    for (int e = 0; e < 8; ++e) stored = stored && row(s.other, lane)[e] == row(s.tile, lane)[e];
    ptx::ldmatrix_x4_trans(r, row(s.tile, lane));
    for (int j = 0; j < 4; ++j)
      transposed = transposed && r[j] == (element(j, 2 * (lane % 4), lane / 4) | uint32_t{element(j, 2 * (lane % 4) + 1, lane / 4)} << 16);
    __syncwarp();
    for (int e = 0; e < 8; ++e) row(s.other, lane)[e] = 0;
    __syncwarp();
    ptx::stmatrix_x4_trans(row(s.other, lane), r);
    __syncwarp();
    for (int e = 0; e < 8; ++e) stored_transposed = stored_transposed && row(s.other, lane)[e] == row(s.tile, lane)[e];
    ptx::ldmatrix_x2(p, row(s.tile, lane % 16));
    for (int j = 0; j < 2; ++j)
      pair = pair && p[j] == (element(j, lane / 4, 2 * (lane % 4)) | uint32_t{element(j, lane / 4, 2 * (lane % 4) + 1)} << 16);
    ptx::ldmatrix_x2_trans(p, row(s.tile, lane % 16));
    for (int j = 0; j < 2; ++j)
      pair = pair && p[j] == (element(j, 2 * (lane % 4), lane / 4) | uint32_t{element(j, 2 * (lane % 4) + 1, lane / 4)} << 16);
  });
  expect(plain, "ldmatrix_x4");
  expect(transposed, "ldmatrix_x4_trans");
  expect(pair, "ldmatrix_x2 and its transpose");
  expect(stored, "stmatrix_x4");
  expect(stored_transposed, "stmatrix_x4_trans");
}

void shuffles() {
  Verdict right = true;
  run(1, 64, 0, [&] {
    const int lane = threadIdx.x % 32;
    right = right && __shfl_xor_sync(~0u, lane * 3, 5) == (lane ^ 5) * 3;
    right = right && __shfl_up_sync(~0u, lane, 3) == (lane < 3 ? lane : lane - 3);
    right = right && __shfl_down_sync(~0u, lane, 3, 8) == (lane % 8 + 3 > 7 ? lane : lane + 3);
    right = right && __shfl_sync(~0u, 1.5 * lane, 9) == 13.5;
    right = right && __shfl_sync(~0u, lane, 9, 4) == lane / 4 * 4 + 1;
    const uint32_t half = lane < 16 ? 0xffffu : 0xffff0000u;
    right = right && __ballot_sync(half, lane % 2 == 0) == (0x55555555u & half);
    right = right && __any_sync(~0u, lane == 7) && !__all_sync(~0u, lane == 7);
    right = right && __match_any_sync(~0u, lane % 3) == (lane % 3 == 0 ? 0x49249249u : lane % 3 == 1 ? 0x92492492u : 0x24924924u);
  });
  expect(right, "shuffles and votes");
}

// Every 16-bit pattern widens and comes back; ties and the borders of halves are rounded as IEEE says.
void conversions() {
  bool halves = true, brains = true;
  for (uint32_t i = 0; i < 65536; ++i) {
    const float f = ptx::f16_to_float(static_cast<uint16_t>(i));
    if (!std::isnan(f)) halves = halves && (ptx::pack_f16(f, f) == (i | i << 16));
    const float b = __uint_as_float(i << 16);
    if (!std::isnan(b)) brains = brains && ptx::pack_bf16(b, b) == (i | i << 16);
  }
  for (int i = 0; i < 100000; ++i) {  // the nearest half is one of the two neighbours, the nearer, or the even one
    const float f = std::ldexp(static_cast<float>(static_cast<int32_t>(bits())), -31 - static_cast<int>(bits() % 28) + 4);
    const uint32_t got = ptx::pack_f16(f, 0) & 0xffff;
    const double error = std::fabs(static_cast<double>(ptx::f16_to_float(static_cast<uint16_t>(got))) - f);
    for (const int step : {-1, 1}) {
      const double other = std::fabs(static_cast<double>(ptx::f16_to_float(static_cast<uint16_t>(got + step))) - f);
      if (std::isfinite(other)) halves = halves && (error < other || (error == other && got % 2 == 0));
    }
  }
  expect(halves, "f16");
  expect(brains, "bf16");
  expect(ptx::pack_f16(65519.99f, 65520.0f) == 0x7c007bff, "the largest half");
  expect(ptx::pack_bf16(1.00390625f, 1.01171875f) == 0x3f823f80, "bf16 ties go to even");
  expect(ptx::to_tf32(1.00048828125f) == 0x3f802000, "tf32 ties go away from zero");
}

void copies() {
  std::vector<uint32_t> from(64 * 4), to(64 * 4, 7);
  for (auto& v : from) v = bits();
  uint32_t *source = from.data(), *target = to.data();
  alignas(16) static uint32_t aligned_in[64 * 4], aligned_out[64 * 4];
  std::memcpy(aligned_in, source, sizeof aligned_in);
  Verdict undefined = true;
  struct Smem {
    alignas(16) uint32_t rows[64][4];
  };
  run(1, 64, sizeof(Smem), [&] {
    auto& s = shared_memory<Smem>();
    const int t = threadIdx.x;
    ptx::copy_async_16(s.rows[t], aligned_in + 4 * t, t % 5 != 0);
    ptx::copy_async_commit();
    undefined = undefined && s.rows[t][0] == 0xffffffffu;
    ptx::copy_async_wait<0>();
    __syncthreads();
    const int other = 63 - t;
    ptx::store_global_16(aligned_out + 4 * other, make_uint4(s.rows[other][0], s.rows[other][1], s.rows[other][2], s.rows[other][3]));
  });
  bool right = undefined;
  for (int t = 0; t < 64; ++t)
    for (int i = 0; i < 4; ++i) right = right && aligned_out[4 * t + i] == (t % 5 ? from[4 * t + i] : 0);
  expect(right, "cp.async: undefined before, there after the wait, zeros where not valid");
  target[0] = 0;
}

void named_barriers_and_atomics() {
  int count = 0, turn = 0, tickets = 0;
  std::vector<int> seen(64, 0);
  run(dim3(3), 128, 16, [&] {
    struct Smem { int value; };
    auto& s = shared_memory<Smem>();
    const int warp = threadIdx.x / 32;
    if (warp == 0) {  // producer: writes, then arrives without waiting
      if (threadIdx.x == 0) s.value = 41;
      ptx::barrier_arrive(3, 64);
    } else if (warp == 1) {
      ptx::barrier_sync(3, 64);
      if (threadIdx.x % 32 == 0 && s.value == 41) atomicAdd(&turn, 1);
    }
    atomicAdd(&count, 2);
    if (threadIdx.x == 0) seen[ptx::add_acquire_release(&tickets, 1)] = 1;
  });
  expect(turn == 3, "named barriers");
  expect(count == 3 * 128 * 2, "atomicAdd");
  expect(seen[0] && seen[1] && seen[2] && tickets == 3, "tickets");
}

void costs() {
  using simt::counters;
  struct Smem { alignas(16) uint16_t tight[32][64], padded[32][72]; };
  alignas(128) static float global[32 * 32];
  const auto measure = [&](bool padded) {
    counters() = {};
    run(1, 32, sizeof(Smem), [&] {
      auto& s = shared_memory<Smem>();
      uint32_t r[4];
      ptx::ldmatrix_x4(r, padded ? s.padded[threadIdx.x] : s.tight[threadIdx.x]);
    });
    return counters().bank_conflicts;
  };
  expect(measure(false) == 4 * 7 && measure(true) == 0, "bank conflicts of ldmatrix: 7 a matrix in rows of 128 bytes, none in padded rows");
  counters() = {};
  run(1, 32, 0, [&] { ptx::load_global_16(global + 4 * threadIdx.x); });
  expect(counters().global_sectors == 16 && counters().global_read_bytes == 512, "a coalesced load is 16 sectors");
  counters() = {};
  run(1, 32, 0, [&] { ptx::load_global_16(global + 32 * threadIdx.x); });
  expect(counters().global_sectors == 32, "a strided load is a sector a lane");
}

void device_seam() {
  auto device = simt::open_emulated_device();
  const Stream one = device->create_stream(), two = device->create_stream();
  const Event written = device->create_event();
  auto* memory = static_cast<int*>(device->allocate(64 * sizeof(int)));
  std::vector<int> host(64, 5), out(64, 0);
  bool waited = true, unordered = false;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    simt::options().seed = seed;
    for (const bool with_event : {true, false}) {
      device->fill(memory, 0, 64 * sizeof(int), one);
      device->synchronize(one);
      device->copy_in(memory, host.data(), 64 * sizeof(int), one);
      launch(one, "double", +[](int* m) { m[threadIdx.x] *= 2; }, 1, 64, 0, memory);
      device->record(written, one);
      if (with_event) device->wait(two, written);
      device->copy_out(out.data(), memory, 64 * sizeof(int), two);
      device->synchronize(two);
      device->synchronize(one);
      if (with_event) waited = waited && out[63] == 10;
      else unordered = unordered || out[63] != 10;
    }
  }
  expect(waited, "a stream sees what came before the event it waits for");
  expect(unordered, "a stream that waits for nobody comes too early in some order");
  device->release(memory);
  device->destroy(written);
  device->destroy(one);
  device->destroy(two);
}

}  // namespace

int main() {
  for (int round = 0; round < 4; ++round) {
    simt::options().schedule = round == 0 ? simt::Schedule::forward : round == 1 ? simt::Schedule::reverse : simt::Schedule::random;
    simt::options().seed = round;
    mma_table(Type::bf16);
    mma_table(Type::f16);
    mma_table(Type::tf32);
    ldmatrix_table();
    shuffles();
    copies();
    named_barriers_and_atomics();
  }
  conversions();
  costs();
  device_seam();
  return simt::report("wrappers_test " SIMT_TIER);
}
