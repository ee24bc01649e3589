// A radix sort, 8 bits a pass from the lowest on. A block has a tile of kTile neighbours. Pass: each block counts its digits;
// for each digit the counts become places among the blocks; each block moves its elements, in order, to
// first place of the digit + elements of the digit in blocks before + in warps before + before it in its warp.
#include "kernels/cuda/sort.h"

#include <algorithm>

#include "kernels/cuda/dispatch.h"

namespace longer::cuda {

namespace {

constexpr int kDigits = 256;
constexpr int kThreads = 256;  // one a digit
constexpr int kWarps = kThreads / 32;
constexpr int kRounds = 8;     // elements a thread
constexpr int kTile = kThreads * kRounds;
static_assert(kThreads == kDigits, "a thread looks after a digit");

struct CountShared {
  int digits[kDigits];
};
struct MoveShared {
  int before[kWarps][kDigits];  // elements of a digit that a warp has had; then those of the warps before it
  int first[kDigits];
  int warps[kWarps];
};

__device__ __forceinline__ int digit_of(uint32_t key, int shift) { return static_cast<int>(key >> shift & (kDigits - 1)); }

// The sum of the lanes up to this one.
__device__ __forceinline__ int scan_warp(int sum) {
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, by);
    if (static_cast<int>(threadIdx.x % 32) >= by) sum += other;
  }
  return sum;
}

// The sum of the threads before this one. Every thread calls it.
__device__ int scan_block(int mine, int (&warps)[kWarps]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = scan_warp(mine);
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  int before = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w)
    if (w < warp) before += warps[w];
  __syncthreads();
  return before + sum - mine;
}

// counts[digit][block]
__global__ void __launch_bounds__(kThreads) count_digits(const uint32_t* keys, int64_t count, int shift, int* counts) {
  CountShared& shared = shared_memory<CountShared>();
  shared.digits[threadIdx.x] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile;
  for (int i = threadIdx.x; i < kTile && first + i < count; i += kThreads) atomicAdd(&shared.digits[digit_of(keys[first + i], shift)], 1);
  __syncthreads();
  counts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = shared.digits[threadIdx.x];
}

// A warp a digit: its counts become sums of those before, totals[digit] their sum.
__global__ void __launch_bounds__(kThreads) scan_counts(int* counts, int blocks, int* totals) {
  const int lane = threadIdx.x % 32, digit = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  int* mine = counts + static_cast<int64_t>(digit) * blocks;
  int carried = 0;
  for (int base = 0; base < blocks; base += 32) {
    const int b = base + lane, value = b < blocks ? mine[b] : 0, sum = scan_warp(value);
    if (b < blocks) mine[b] = carried + sum - value;
    carried += __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) totals[digit] = carried;
}

__global__ void __launch_bounds__(kThreads) move(KeyedNumbers from, KeyedNumbers to, int64_t count, int shift, const int* counts, const int* totals) {
  MoveShared& shared = shared_memory<MoveShared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int w = 0; w < kWarps; ++w) shared.before[w][threadIdx.x] = 0;
  const int digits_before = scan_block(totals[threadIdx.x], shared.warps);
  shared.first[threadIdx.x] = digits_before + counts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x];
  __syncthreads();

  // A warp's elements lie side by side; ranks among the warp's own.
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTile + warp * (32 * kRounds) + lane;
  uint32_t key[kRounds];
  int rank[kRounds];
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const bool there = first + 32 * i < count;
    key[i] = there ? from.keys[first + 32 * i] : 0;
    const int digit = there ? digit_of(key[i], shift) : kDigits;
    const uint32_t same = __match_any_sync(0xffffffffu, digit);
    const int ahead = __popc(same & ((1u << lane) - 1));
    const int had = there ? shared.before[warp][digit] : 0;
    rank[i] = had + ahead;
    __syncwarp();
    if (there && ahead == 0) shared.before[warp][digit] = had + __popc(same);
    __syncwarp();
  }
  __syncthreads();
  int sum = 0;
  for (int w = 0; w < kWarps; ++w) {
    const int here = shared.before[w][threadIdx.x];
    shared.before[w][threadIdx.x] = sum;
    sum += here;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    if (first + 32 * i >= count) continue;
    const int digit = digit_of(key[i], shift), place = shared.first[digit] + shared.before[warp][digit] + rank[i];
    to.keys[place] = key[i];
    to.numbers[place] = from.numbers[first + 32 * i];
  }
}

int64_t blocks_of(int64_t count) { return divide_up(count, kTile); }

}  // namespace

int64_t sort_bytes(int64_t count) { return (2 * count + kDigits * (blocks_of(count) + 1)) * static_cast<int64_t>(sizeof(uint32_t)); }

KeyedNumbers sort(Stream stream, KeyedNumbers given, int64_t count, int bits, void* memory) {
  const int blocks = narrow("sort", blocks_of(count));
  narrow("sort", count);
  auto* words = static_cast<uint32_t*>(memory);
  KeyedNumbers other{words, words + count};
  int* counts = reinterpret_cast<int*>(words + 2 * count);
  int* totals = counts + static_cast<int64_t>(kDigits) * blocks;
  if (count == 0) return given;
  for (int shift = 0; shift < bits; shift += 8) {
    launch(stream, "sort count", count_digits, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(CountShared), given.keys, count, shift, counts);
    launch(stream, "sort scan", scan_counts, dim3(kDigits / kWarps), dim3(kThreads), 0, counts, blocks, totals);
    launch(stream, "sort move", move, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(MoveShared), given, other, count, shift, counts, totals);
    std::swap(given, other);
  }
  return given;
}

}  // namespace longer::cuda
