// sparse_grad (kernels/embed.h): the ids of all uses are listed end to end, sorted once, and every run of equal ids is one sum.
#include <algorithm>

#include "kernels/cuda/listed_sum.cuh"
#include "kernels/cuda/sort.h"
#include "kernels/embed.h"

namespace longer::cuda {

namespace {

constexpr uint32_t kNoId = 0xffffffffu;
constexpr int kThreads = 256;
constexpr int kChunk = 4096;  // sorted ids that a block looks for beginnings in

struct Use {
  const int32_t *ids, *offsets;
  Values dy;
  int64_t first, count, rows;  // number of its first source, sources, rows of dy
  int columns, column;         // of dy, and where the use's begin
  bool mean, vector;
};

struct Uses {
  Use of[kMostFields];
  int count;
  int32_t* row;  // of the sources of uses with offsets
  float* share;
};

struct ListPlain {
  Use use;
  KeyedNumbers listed;
  __device__ void operator()(int64_t at, int count) const {
    for (int64_t i = at; i < at + count; ++i) {
      listed.keys[use.first + i] = use.ids[i] < 0 ? kNoId : static_cast<uint32_t>(use.ids[i]);
      listed.numbers[use.first + i] = static_cast<uint32_t>(use.first + i);
    }
  }
};

// Before ListRows: what no row names counts nowhere.
struct ListNothing {
  Use use;
  KeyedNumbers listed;
  __device__ void operator()(int64_t at, int count) const {
    for (int64_t i = at; i < at + count; ++i) {
      listed.keys[use.first + i] = kNoId;
      listed.numbers[use.first + i] = static_cast<uint32_t>(use.first + i);
    }
  }
};

struct ListRows {
  Use use;
  KeyedNumbers listed;
  int32_t* row_of;
  float* share_of;
  __device__ void operator()(int64_t row, const RowTeam&) const {
    const int64_t from = use.offsets[row], to = use.offsets[row + 1];
    int there = 0;
    for (int64_t i = from; i < to; ++i) there += use.ids[i] >= 0;
    for (int64_t i = from; i < to; ++i) {
      if (use.ids[i] >= 0) listed.keys[use.first + i] = static_cast<uint32_t>(use.ids[i]);
      row_of[use.first + i] = static_cast<int32_t>(row);
      share_of[use.first + i] = use.mean ? 1.f / static_cast<float>(there) : 1.f;
    }
  }
};

__device__ __forceinline__ bool begins(const uint32_t* keys, int64_t i) { return keys[i] != kNoId && (i == 0 || keys[i] != keys[i - 1]); }

struct CountShared {
  int warps[kThreads / 32];
};

// Beginnings among the chunk's sorted ids before this thread's share of them, and of the whole chunk.
__device__ int beginnings_before(const uint32_t* keys, int64_t first, int64_t last, CountShared& shared, int& total) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int mine = 0;
  for (int64_t i = first; i < last; ++i) mine += begins(keys, i);
  int sum = mine;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, by);
    if (lane >= by) sum += other;
  }
  if (lane == 31) shared.warps[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) before += shared.warps[w];
    total += shared.warps[w];
  }
  return before + sum - mine;
}

struct Beginnings {
  const uint32_t* keys;
  int64_t count;
  int32_t *chunks, *starts, *rows, *unique, *long_count;

  __device__ void share(int64_t& first, int64_t& last) const {
    constexpr int kEach = kChunk / kThreads;
    first = min(static_cast<int64_t>(blockIdx.x) * kChunk + static_cast<int64_t>(threadIdx.x) * kEach, count);
    last = min(first + kEach, count);
  }
};

__global__ void __launch_bounds__(kThreads) count_beginnings(Beginnings b) {
  CountShared& shared = shared_memory<CountShared>();
  int64_t first, last;
  b.share(first, last);
  int total;
  beginnings_before(b.keys, first, last, shared, total);
  if (threadIdx.x == 0) b.chunks[blockIdx.x] = total;
}

// One thread: chunks are few. starts[unique] is where the ids that count end.
__global__ void number_chunks(Beginnings b, int chunks) {
  int sum = 0;
  for (int i = 0; i < chunks; ++i) {
    const int here = b.chunks[i];
    b.chunks[i] = sum;
    sum += here;
  }
  int64_t low = 0, high = b.count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (b.keys[middle] != kNoId) low = middle + 1;
    else high = middle;
  }
  b.starts[sum] = static_cast<int32_t>(low);
  *b.unique = sum;
  *b.long_count = 0;
}

__global__ void __launch_bounds__(kThreads) write_beginnings(Beginnings b) {
  CountShared& shared = shared_memory<CountShared>();
  int64_t first, last;
  b.share(first, last);
  int total;
  int at = b.chunks[blockIdx.x] + beginnings_before(b.keys, first, last, shared, total);
  for (int64_t i = first; i < last; ++i)
    if (begins(b.keys, i)) {
      b.starts[at] = static_cast<int32_t>(i);
      b.rows[at++] = static_cast<int32_t>(b.keys[i]);
    }
}

struct GradientRows {
  Uses uses;
  const uint32_t* sources;  // sorted by id
  const int32_t *starts, *unique;
  Values grad;
  int width;
  bool vector;

  __device__ int64_t segments() const { return *unique; }
  __device__ void range(int64_t segment, int64_t& from, int64_t& to) const { from = starts[segment], to = starts[segment + 1]; }
  __device__ void fetch(int64_t entry, int c, int count, float (&v)[kPack]) const {
    const int64_t source = sources[entry];
    int u = 0;
    while (u + 1 < uses.count && source >= uses.of[u + 1].first) ++u;
    const Use& use = uses.of[u];
    const int64_t row = use.offsets ? uses.row[source] : source - use.first;
    load_pack(v, use.dy, row * use.columns + use.column + c, count, use.vector);
    if (!use.mean) return;
    const float share = uses.share[source];
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] *= share;
  }
  __device__ void store(int64_t segment, int c, int count, const float (&v)[kPack]) const { store_pack(grad, segment * width + c, v, count, vector); }
};

struct Memory {
  KeyedNumbers listed;
  int32_t *row, *starts, *chunks, *long_count, *long_list;
  float* share;
  void* sort;
  int64_t bytes;
};

Memory carve(const SparseGradArgs& a, void* memory) {
  auto* const start = static_cast<uint32_t*>(memory);
  int64_t at = 0;
  const auto take = [&](int64_t words) {
    uint32_t* here = start ? start + at : nullptr;
    at += words;
    return here;
  };
  Memory m;
  m.listed.keys = take(a.ids);
  m.listed.numbers = take(a.ids);
  m.row = reinterpret_cast<int32_t*>(take(a.ids));
  m.share = reinterpret_cast<float*>(take(a.ids));
  m.starts = reinterpret_cast<int32_t*>(take(a.ids + 1));
  m.chunks = reinterpret_cast<int32_t*>(take(divide_up(a.ids, kChunk)));
  m.long_count = reinterpret_cast<int32_t*>(take(1));
  m.long_list = reinterpret_cast<int32_t*>(take(most_long_segments(a.ids)));
  m.sort = take(sort_bytes(a.ids) / 4);
  m.bytes = at * 4;
  return m;
}

}  // namespace

int64_t sparse_grad_workspace(const Call& call) { return carve(sparse_grad_args(call), nullptr).bytes; }

void sparse_grad(const Call& call, const Queue& queue) {
  constexpr const char* kName = "sparse_grad";
  const SparseGradArgs a = sparse_grad_args(call);
  const Memory m = carve(a, call.workspace);
  Uses uses{};
  uses.count = a.count;
  uses.row = m.row;
  uses.share = m.share;
  int64_t first = 0;
  for (int u = 0; u < a.count; ++u) {
    const Values dy = values(kName, a.dy[u]);
    const int64_t columns = a.dy[u].cols(), column = a.uses[u].column;
    Use& use = uses.of[u];
    use = {vector_of<int32_t>(kName, a.uses[u].ids), vector_of<int32_t>(kName, a.uses[u].offsets), dy, first, a.uses[u].ids.size(), a.dy[u].rows(),
           narrow(kName, columns), static_cast<int>(column), a.uses[u].mean, packs_aligned(dy, columns) && column % kPack == 0};
    first += use.count;
    if (use.offsets) {
      pointwise(queue, kName, use.count, ListNothing{use, m.listed});
      each_row(queue, kName, use.rows, 1, ListRows{use, m.listed, m.row, m.share});
    } else {
      pointwise(queue, kName, use.count, ListPlain{use, m.listed});
    }
  }
  const KeyedNumbers sorted = sort(queue.stream, m.listed, a.ids, 32, m.sort);
  const int chunks = narrow(kName, divide_up(a.ids, kChunk)), width = narrow(kName, a.width);
  int32_t* unique = vector_of<int32_t>(kName, a.unique);
  const Beginnings b{sorted.keys, a.ids, m.chunks, m.starts, vector_of<int32_t>(kName, a.rows), unique, m.long_count};
  launch(queue.stream, kName, count_beginnings, dim3(static_cast<unsigned>(chunks)), dim3(kThreads), sizeof(CountShared), b);
  launch(queue.stream, kName, number_chunks, dim3(1), dim3(1), 0, b, chunks);
  launch(queue.stream, kName, write_beginnings, dim3(static_cast<unsigned>(chunks)), dim3(kThreads), sizeof(CountShared), b);
  const Values grad = values(kName, a.grad);
  const bool vector = packs_aligned(grad, a.width);
  listed_sums(queue, kName, a.ids, a.ids, width, GradientRows{uses, sorted.numbers, m.starts, unique, grad, width, vector}, m.long_count, m.long_list);
}

}  // namespace longer::cuda
