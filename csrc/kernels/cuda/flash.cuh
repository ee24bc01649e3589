// What the forward and the backward pass of flash.h share. A block has 64 rows of one request and one head, a warp 16 of them;
// tiles of what they meet come by cp.async, one ahead.
//
// Rows of a candidate begin at a multiple of `pitch`, a power of two up to 64 or a multiple of 64, with nothing after the m-th:
// where a candidate lies in a tile then does not change which of its products are added together, nor its bits.
#pragma once
#include "kernels/cuda/flash.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/workspace.h"

namespace longer::cuda {

constexpr float kLog2e = 1.44269504f, kLn2 = 0.69314718f;

struct Band {
  int first, end;
  __device__ __forceinline__ bool has(int i) const { return first <= i && i < end; }
};

struct FlashInput {
  const void *q, *k, *v, *own_k, *own_v;  // as wide as each other, and of one type
  DType type;
  bool vector;
  int64_t width;
  const int32_t *q_offsets, *k_offsets, *limits;
  Sight sight;
  int unit, pitch, group, heads, head_width;
  float scale, scale_log2;  // of scores, and of their base 2 exponents

  __device__ __forceinline__ Operand matrix(const void* data) const { return {{const_cast<void*>(data), type}, 0, width, vector}; }
};

// The rows of one request, in the numbering with a pitch.
struct FlashRows {
  int64_t first;  // in memory
  int count, unit, pitch;

  __device__ __forceinline__ FlashRows(const FlashInput& in, int request)
      : first(int64_t{in.q_offsets[request]} * in.unit), count((in.q_offsets[request + 1] - in.q_offsets[request]) * in.pitch), unit(in.unit), pitch(in.pitch) {}
  // The row in memory; negative: none.
  __device__ __forceinline__ int64_t at(int row) const {
    if (row >= count) return -1;
    if (pitch == 1) return first + row;
    return row % pitch < unit ? first + row / pitch * unit + row % pitch : -1;
  }
};

struct KeyRange {
  int64_t first;
  int count;
};

// Where the rows of keys and of values lie: in the order in which they are counted,
struct InOrder {
  __device__ __forceinline__ KeyRange keys_of(const FlashInput& in, int request) const {
    return {in.k_offsets[request], in.k_offsets[request + 1] - in.k_offsets[request]};
  }
  __device__ __forceinline__ int64_t k_row(int64_t r) const { return r; }
  __device__ __forceinline__ int64_t v_row(int64_t r) const { return r; }
};

// or in pages, row r in place r % page_rows of the page that its table has at r / page_rows (kernels/key_pages.h).
struct InPages {
  struct Table {
    const int32_t* pages;
    int64_t there;  // pages that the pool has
  } k, v;
  const int32_t* spans;  // of a request: its first row, counted through the tables, and how many
  int64_t listed;        // pages of a table
  int page_rows;
  int32_t *fault, code;

  // None where they are not all in the table.
  __device__ __forceinline__ KeyRange keys_of(const FlashInput&, int request) const {
    const KeyRange range{spans[2 * int64_t{request}], spans[2 * int64_t{request} + 1]};
    if (range.first >= 0 && range.count >= 0 && range.first + range.count <= listed * page_rows) return range;
    report(fault, code);
    return {0, 0};
  }
  __device__ __forceinline__ int64_t k_row(int64_t r) const { return row(k, r); }
  __device__ __forceinline__ int64_t v_row(int64_t r) const { return row(v, r); }

 private:
  __device__ __forceinline__ int64_t row(const Table& table, int64_t r) const {
    if (r < 0) return -1;
    const uint32_t at = static_cast<uint32_t>(r) / page_rows;  // two counts of 31 bits
    const int64_t page = table.pages[at];
    if (page >= 0 && page < table.there) return page * page_rows + static_cast<uint32_t>(r) % page_rows;
    report(fault, code);
    return -1;
  }
};

// The keys that a row of a request may see, in one matrix.
struct FlashKeys {
  const void *k, *v;
  Sight sight;
  int64_t first;  // where sight is prefix
  int count;
  FlashRows rows;

  template <class Place = InOrder>
  __device__ __forceinline__ FlashKeys(const FlashInput& in, int request, bool own, const Place& place = {}) : k(own ? in.own_k : in.k), v(own ? in.own_v : in.v),
      sight(own ? Sight::own : in.sight), first(0), count(0), rows(in, request) {
    const KeyRange range = sight == Sight::prefix ? place.keys_of(in, request) : KeyRange{rows.first, rows.count};
    first = range.first, count = range.count;
  }
  __device__ __forceinline__ int64_t at(int key) const {
    if (sight == Sight::own) return rows.at(key);
    return key < count ? first + key : -1;
  }
  // The keys that a row sees.
  __device__ __forceinline__ Band seen_by(const FlashInput& in, int row) const {
    const int64_t at = rows.at(row);
    if (at < 0) return {0, 0};
    if (sight == Sight::own) return {row - row % rows.pitch, row + 1};
    if (sight == Sight::group) {
      const int end = count - (count - 1 - row) / in.group * in.group;
      return {max(0, end - in.group), end};
    }
    return {0, in.limits ? max(0, min(in.limits[at], count)) : count};
  }
  // The rows that see keys from key up to and including last, or more.
  __device__ __forceinline__ Band seeing(const FlashInput& in, int key, int last) const {
    last = min(last, count - 1);
    if (sight == Sight::own) return {key, min(count, last - last % rows.pitch + rows.pitch)};
    if (sight == Sight::group) return {seen_by(in, key).first, seen_by(in, last).end};
    return {0, rows.count};
  }
};

// The bands of a block's rows.
struct FlashBands {
  int first[kTileRows], end[kTileRows];

  // By the whole block, after a barrier. The keys that any row sees; each thread's two rows in `mine`.
  __device__ __forceinline__ Band set(const FlashInput& in, const FlashKeys& keys, int row0, Band (&mine)[2]) {
    if (threadIdx.x < kTileRows) {
      const Band band = keys.seen_by(in, row0 + threadIdx.x);
      first[threadIdx.x] = band.first, end[threadIdx.x] = band.end;
    }
    __syncthreads();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (int r = 0; r < 2; ++r) mine[r] = {first[row + 8 * r], end[row + 8 * r]};
    Band all{1 << 30, 0};
    for (int i = lane; i < kTileRows; i += 32)
      if (first[i] < end[i]) all = {min(all.first, first[i]), max(all.end, end[i])};
#pragma unroll
    for (int by = 16; by > 0; by /= 2) {
      all.first = min(all.first, __shfl_xor_sync(0xffffffffu, all.first, by));
      all.end = max(all.end, __shfl_xor_sync(0xffffffffu, all.end, by));
    }
    return all;
  }
};

// Rows of the tiles that a block's rows meet, so that two stages fit the shared memory of every GPU (99 KB).
template <class T, int D>
constexpr int kForwardKeys = D * sizeof(T) <= 256 ? 64 : 32;
template <class T, int D>
constexpr int kBackwardRows = D * sizeof(T) <= 128 ? 64 : D * sizeof(T) == 256 ? 32 : 16;

// sums += left right, 16 rows by kColumns; the left factor's rows m0 .. of a tile. kDepthInRows: of the right tile.
template <class T, int kColumns, int kDepth, bool kDepthInRows, class LeftTile, class RightTile>
__device__ __forceinline__ void multiply_tiles(float (*sums)[4], LeftTile& left, int m0, RightTile& right) {
#pragma unroll(sizeof(T) == 2 ? 8 : 1)  // factors of floats are large
  for (int k = 0; k < kDepth; k += kDepthStep<T>) {
    Left<T> a;
    load_factor<false>(a, left, m0, k);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      Right<T> b;
      load_factor<kDepthInRows>(b, right, n, k);
      multiply(sums + n / 8, a, b);
    }
  }
}

// sums += weights right: 16 rows of kDepth weights in registers, by the kDepth rows of a tile.
template <class T, int kColumns, int kDepth, class RightTile>
__device__ __forceinline__ void multiply_weights(float (*sums)[4], const float (*weights)[4], RightTile& right) {
#pragma unroll
  for (int k = 0; k < kDepth; k += kDepthStep<T>) {
    const Left<T> a = left_of<T>(weights + k / 8);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      Right<T> b;
      load_factor<true>(b, right, n, k);
      multiply(sums + n / 8, a, b);
    }
  }
}

// A warp's 16 rows of sums, each times the factor of its half (rows g, rows g + 8), into rows m0 .. of a tile.
template <int kColumns, class AnyTile>
__device__ __forceinline__ void put_sums(AnyTile& tile, int m0, const float (*sums)[4], float factor0, float factor1) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kColumns; n += 8) {
    const float(&s)[4] = sums[n / 8];
    tile.put(m0 + lane / 4, n + lane % 4 * 2, s[0] * factor0, s[1] * factor0);
    tile.put(m0 + lane / 4 + 8, n + lane % 4 * 2, s[2] * factor1, s[3] * factor1);
  }
}

// Row g (half 0) or g + 8 of a warp's 16 rows of sums, times the same row of a tile; for the four lanes that have the row.
template <int kColumns, class AnyTile>
__device__ __forceinline__ float dot_sums(AnyTile& tile, int m0, const float (*sums)[4], int half) {
  const int lane = threadIdx.x % 32;
  float dot = 0;
#pragma unroll
  for (int n = 0; n < kColumns; n += 8)
#pragma unroll
    for (int c = 0; c < 2; ++c) dot += sums[n / 8][2 * half + c] * to_float(tile.element(m0 + lane / 4 + 8 * half, n + lane % 4 * 2 + c));
  dot += __shfl_xor_sync(0xffffffffu, dot, 1);
  return dot + __shfl_xor_sync(0xffffffffu, dot, 2);
}

// ---- the host's side

inline int pitch_of(int64_t unit) {
  int pitch = 1;
  while (pitch < unit && pitch < kTileRows) pitch *= 2;
  return static_cast<int>(unit <= kTileRows ? pitch : divide_up(unit, kTileRows) * kTileRows);
}

// run(T{}, integral_constant of D) with the type of the tensors and the tile's width for their heads.
template <class Run>
void with_head(const char* name, const FlashTensors& t, const Queue& queue, Run&& run) {
  const auto sized = [&](auto type) {
    if (t.head_width <= 16) run(type, std::integral_constant<int, 16>());
    else if (t.head_width <= 32) run(type, std::integral_constant<int, 32>());
    else if (t.head_width <= 64) run(type, std::integral_constant<int, 64>());
    else if (t.head_width <= 128) run(type, std::integral_constant<int, 128>());
    else throw shape_error(std::string(name) + ": the device takes heads of up to 128 columns; use more heads");
  };
  if (t.q.dtype == DType::f32 && queue.tf32) sized(Tf32{});
  else with_type(t.q, sized);
}

template <class T>
FlashInput flash_input(const char* name, const FlashTensors& t) {
  FlashInput in;
  in.q = t.q.data, in.k = t.k.data, in.v = t.v.data, in.own_k = t.own_k.data, in.own_v = t.own_v.data;
  in.type = dtype_of<T>();
  in.width = t.width;
  in.vector = t.head_width % (16 / static_cast<int64_t>(sizeof(T))) == 0;
  for (const Tensor* m : {&t.q, &t.k, &t.v, &t.own_k, &t.own_v, &t.o, &t.d_o, &t.dq, &t.dk, &t.dv, &t.down_k, &t.down_v})
    in.vector = in.vector && reinterpret_cast<uintptr_t>(m->data) % 16 == 0;
  in.q_offsets = vector_of<int32_t>(name, t.q_offsets);
  in.k_offsets = vector_of<int32_t>(name, t.k_offsets);
  in.limits = vector_of<int32_t>(name, t.limits);
  in.sight = t.sight;
  in.unit = narrow(name, t.unit);
  in.pitch = pitch_of(t.unit);
  in.group = narrow(name, t.group);
  in.heads = narrow(name, t.heads);
  in.head_width = narrow(name, t.head_width);
  in.scale = static_cast<float>(t.scale);
  in.scale_log2 = static_cast<float>(t.scale * 1.4426950408889634);
  return in;
}

// What tells how long a tile of rows takes.
inline Counts cost_of(const FlashTensors& t, const FlashInput& in) { return {in.k_offsets ? in.k_offsets : in.q_offsets, t.page_rows > 0}; }

inline TileList take_list(Parts& parts, int64_t rows, int64_t requests) {
  TileList list;
  list.most = most_tiles(rows, requests);
  list.items = parts.take<TileItem>(list.most);
  list.first = parts.take<int32_t>(requests);
  return list;
}
inline int64_t pitched_rows(const FlashTensors& t) { return t.q.dim[0] / t.unit * pitch_of(t.unit); }

}  // namespace longer::cuda
