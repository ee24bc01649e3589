// Hopper's asynchronous machinery: mbarriers, tensor memory accelerator, warpgroup matrix multiply.
#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "simt/fiber.h"
#include "simt/ptx.h"

namespace longer {

namespace {

struct EmulatedMap {
  const unsigned char* matrix;
  int64_t rows, cols, pitch;
  int32_t box_rows, box_cols, swizzle;
  uint32_t seal;
};
constexpr uint32_t kSeal = 0x544d4150;
static_assert(sizeof(EmulatedMap) <= sizeof(TensorMap), "a tensor map is 128 bytes");

}  // namespace

TensorMap tensor_map_2d(const void* matrix, int64_t rows, int64_t cols, int64_t pitch, int box_rows, int box_cols, Swizzle swizzle) {
  const int span[] = {256, 32, 64, 128};
  const auto refuse = [](const char* why) { throw simt::Failure(std::string("cuTensorMapEncodeTiled would refuse: ") + why); };
  if (reinterpret_cast<uintptr_t>(matrix) % 16) refuse("the matrix is not aligned to 16 bytes");
  if (pitch % 16 || pitch < cols * 2) refuse("the pitch must be a multiple of 16 and hold a row");
  if (rows < 1 || cols < 1 || box_rows < 1 || box_cols < 1 || box_rows > 256 || box_cols > 256) refuse("sizes");
  if (box_cols * 2 % 16) refuse("a box's row must be a multiple of 16 bytes");
  if (swizzle != Swizzle::none && box_cols * 2 > span[static_cast<int>(swizzle)]) refuse("a box's row is wider than the swizzle");
  const EmulatedMap made{static_cast<const unsigned char*>(matrix), rows, cols, pitch, box_rows, box_cols, static_cast<int>(swizzle), kSeal};
  TensorMap map{};
  std::memcpy(&map, &made, sizeof made);
  return map;
}

}  // namespace longer

namespace simt {

namespace {

using longer::EmulatedMap;

void* (*volatile copy_bytes)(void*, const void*, size_t) = std::memcpy;
void* (*volatile set_bytes)(void*, int, size_t) = std::memset;

// ---- state of a block

struct Phases {  // fences of a barrier's running phase and of the one before
  void *now, *before;
};

struct WarpProduct {
  float* d[32];
  std::vector<float> old;  // what d held, [lane][register]
  bool chained;  // an earlier product of the same accumulators is still under way: start from its result
  int columns, warp;
  uint64_t a, b;
  bool add, transpose_a, transpose_b;
  Product kind;
};

struct WarpGroups {
  bool fenced = false;  // since the last wait
  std::vector<WarpProduct> open;
  std::deque<std::vector<WarpProduct>> committed;
  std::map<const float*, std::vector<float>> sums;  // of accumulators that a later product is still to add to: the registers hold nothing yet

  bool pending(const float* d) const {
    const auto among = [d](const std::vector<WarpProduct>& group) { return std::any_of(group.begin(), group.end(), [d](const WarpProduct& p) { return p.d[0] == d; }); };
    return among(open) || std::any_of(committed.begin(), committed.end(), among);
  }
};

struct Store {
  EmulatedMap map;
  uint32_t from;
  int col, row;
};

struct Extra {
  std::map<const uint64_t*, Phases> barriers;
  std::map<unsigned, WarpGroups> warps;
  std::map<unsigned, std::vector<Store>> open_stores;
  std::map<unsigned, std::deque<std::vector<Store>>> stores;
};

Extra& extra() {
  std::shared_ptr<void>& held = block_extra();
  if (!held) held = std::make_shared<Extra>();
  return *static_cast<Extra*>(held.get());
}

// ---- mbarrier: phase (1 bit), arrivals missing (20), arrivals of a phase (20), bytes missing (signed, 23)

struct Barrier {
  int phase, pending, count, bytes;
};

Barrier read(const uint64_t* word) {
  const uint64_t w = *word;
  return {static_cast<int>(w & 1), static_cast<int>(w >> 1 & 0xfffff), static_cast<int>(w >> 21 & 0xfffff),
          static_cast<int>(static_cast<int64_t>(w) >> 41)};
}

void write(uint64_t* word, Barrier b) {
  *word = static_cast<uint64_t>(b.phase) | static_cast<uint64_t>(b.pending) << 1 | static_cast<uint64_t>(b.count) << 21 |
          static_cast<uint64_t>(static_cast<int64_t>(b.bytes)) << 41;
}

void update(uint64_t* word, Barrier b) {
  if (b.pending == 0 && b.bytes == 0) {
    Phases& phases = extra().barriers.at(word);
    phases = {block_order(), phases.now};
    b.phase ^= 1;
    b.pending = b.count;
  }
  write(word, b);
  wake_waiting();
}

void require_barrier(const uint64_t* word, Site site) {
  check_aligned(word, 8, site);
  shared_offset(word);
  if (!extra().barriers.count(word)) fail("this mbarrier was never initialised", site);
}

uint32_t swizzled(uint32_t offset, int swizzle) { return offset ^ ((offset >> 7 & ((1u << swizzle) - 1)) << 4); }

// Moves a box row by row, 16 bytes at a time; outside the matrix zeros are read and nothing is written.
void move_box(const EmulatedMap& map, uint32_t at, int col, int row, bool load) {
  const int chunks = map.box_cols / 8;
  if (!shared_at(at, static_cast<size_t>(map.box_rows) * map.box_cols * 2)) return;
  for (int r = 0; r < map.box_rows; ++r)
    for (int c = 0; c < chunks; ++c) {
      unsigned char* shared = shared_at(swizzled(at + (r * chunks + c) * 16, map.swizzle), 16);
      if (!shared) return;
      const int64_t y = row + r;
      int64_t inside = y < 0 || y >= map.rows ? 0 : map.cols - (col + 8 * c);
      inside = inside < 0 || col + 8 * c < 0 ? 0 : inside > 8 ? 8 : inside;
      auto* global = const_cast<unsigned char*>(map.matrix) + y * map.pitch + (int64_t{col} + 8 * c) * 2;
      if (load) {
        if (inside) copy_bytes(shared, global, inside * 2);
        if (inside < 8) set_bytes(shared + inside * 2, 0, 16 - inside * 2);
      } else if (inside) {
        copy_bytes(global, shared, inside * 2);
      }
    }
}

// Of the matrix: what a box has outside costs no traffic.
int64_t bytes_inside(const EmulatedMap& map, int col, int row) {
  const auto overlap = [](int64_t first, int64_t box, int64_t size) { return std::max<int64_t>(0, std::min(first + box, size) - std::max<int64_t>(first, 0)); };
  return overlap(row, map.box_rows, map.rows) * overlap(col, map.box_cols, map.cols) * 2;
}

EmulatedMap open_map(const longer::TensorMap* map, Site site) {
  EmulatedMap made;
  std::memcpy(&made, map, sizeof made);
  if (made.seal != longer::kSeal) fail("this is no tensor map", site);
  return made;
}

// ---- wgmma

void read_chunk(uint32_t offset, int swizzle, Product kind, float (&out)[8]) {
  uint16_t bits[8] = {};
  const unsigned char* shared = shared_at(swizzled(offset, swizzle), 16);
  if (shared) copy_bytes(bits, shared, 16);
  for (int i = 0; i < 8; ++i) out[i] = kind == Product::bf16 ? __uint_as_float(uint32_t{bits[i]} << 16) : f16_to_f32(bits[i]);
}

// rows x 16 of an operand: its rows from `first` on, as the descriptor finds them.
void read_operand(uint64_t descriptor, bool transposed, int first, int rows, Product kind, std::vector<float>& out) {
  const uint32_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  const int code = static_cast<int>(descriptor >> 62), swizzle = code == 0 ? 0 : 4 - code;
  out.resize(static_cast<size_t>(rows) * 16);
  float chunk[8];
  if (!transposed) {
    const uint32_t width = 16u << swizzle;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < 2; ++c) {
        const uint32_t row = first + r;
        read_chunk(start + row / 8 * stride + row % 8 * width + (swizzle ? 16 * c : leading * c), swizzle, kind, chunk);
        for (int i = 0; i < 8; ++i) out[r * 16 + 8 * c + i] = chunk[i];
      }
    return;
  }
  for (int k = 0; k < 16; ++k)
    for (int r = 0; r < rows; r += 8) {
      const uint32_t row = first + r;
      read_chunk(start + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2, swizzle, kind, chunk);
      for (int i = 0; i < 8; ++i) out[(r + i) * 16 + k] = chunk[i];
    }
}

// Into `result`, [lane][register]; `sums`: what a chained one begins with.
void run_product(const WarpProduct& p, const std::vector<float>& sums, std::vector<float>& result) {
  std::vector<float> a, b;
  read_operand(p.a, p.transpose_a, 16 * (p.warp % 4), 16, p.kind, a);
  read_operand(p.b, p.transpose_b, 0, p.columns, p.kind, b);
  const int registers = p.columns / 2;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < registers; ++i) {
      const float* row = &a[(lane / 4 + (i & 2 ? 8 : 0)) * 16];
      const float* column = &b[(i / 4 * 8 + 2 * (lane % 4) + (i & 1)) * 16];
      double sum = !p.add ? 0 : p.chained ? sums[lane * registers + i] : p.old[lane * registers + i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(row[k]) * column[k];
      result[lane * registers + i] = static_cast<float>(sum);
    }
  counters().mma_flops += 2 * 16 * 16 * p.columns;
}

// The i-th of a group that is no longer among the committed ones. TSan looks at what it reads of shared memory alone.
void run_next(WarpGroups& groups, const std::vector<WarpProduct>& group, size_t i) {
  const WarpProduct& p = group[i];
  const size_t registers = static_cast<size_t>(p.columns) / 2;
  std::vector<float> result, begin;
  {
    const order::Quiet quiet;
    result.resize(32 * registers);
    const auto held = groups.sums.find(p.d[0]);
    if (held != groups.sums.end()) begin = std::move(held->second), groups.sums.erase(held);
  }
  run_product(p, begin, result);
  const order::Quiet quiet;
  const bool more = groups.pending(p.d[0]) || std::any_of(group.begin() + static_cast<std::ptrdiff_t>(i) + 1, group.end(), [&p](const WarpProduct& q) { return q.d[0] == p.d[0]; });
  if (more) groups.sums[p.d[0]] = result;
  else
    for (size_t lane = 0; lane < 32; ++lane) std::memcpy(p.d[lane], &result[lane * registers], sizeof(float) * registers);
  std::vector<float>().swap(result), std::vector<float>().swap(begin);
}

struct ProductLane {
  float* d;
  int columns;
  uint64_t a, b;
  bool add, transpose_a, transpose_b, agree, fenced;
  Product kind;
};

}  // namespace

void mbarrier_init(uint64_t* barrier, int arrivals, Site site) {
  const order::Quiet quiet;
  check_aligned(barrier, 8, site);
  shared_offset(barrier);
  if (arrivals < 1 || arrivals > 0xfffff) fail("an mbarrier counts 1 to 2^20 - 1 arrivals", site);
  write(barrier, {0, arrivals, arrivals, 0});
  extra().barriers[barrier] = {block_order(), nullptr};
}

void mbarrier_arrive(uint64_t* barrier, int bytes, Site site) {
  const order::Quiet quiet;
  require_barrier(barrier, site);
  Barrier b = read(barrier);
  if (b.pending == 0) fail("more arrivals than this mbarrier expects", site);
  order::release(extra().barriers.at(barrier).now);
  --b.pending;
  b.bytes += bytes;
  update(barrier, b);
  preempt();
}

void mbarrier_wait(uint64_t* barrier, int parity, Site site) {
  const order::Quiet quiet;
  require_barrier(barrier, site);
  struct Wait {
    const uint64_t* barrier;
    int parity;
  } wait{barrier, parity & 1};
  wait_until([](const void* argument) {
    const auto* w = static_cast<const Wait*>(argument);
    return read(w->barrier).phase != w->parity;
  }, &wait, site);
  order::acquire(extra().barriers.at(barrier).before);
}

void tma_load(void* shared, const longer::TensorMap* map, uint64_t* barrier, int col, int row, Site site) {
  const order::Quiet quiet;
  require_barrier(barrier, site);
  check_aligned(shared, 128, site);
  const EmulatedMap made = open_map(map, site);
  const uint32_t at = shared_offset(shared);
  const int bytes = made.box_rows * made.box_cols * 2;
  counters().global_read_bytes += bytes_inside(made, col, row);
  void* issued = block_order();
  order::release(issued);
  enqueue_engine([=] {
    struct Work {
      EmulatedMap map;
      uint32_t at;
      int col, row;
    } work{made, at, col, row};
    order::as_engine(issued, extra().barriers.at(barrier).now, [](void* argument) {
      const auto* w = static_cast<const Work*>(argument);
      move_box(w->map, w->at, w->col, w->row, true);
    }, &work);
    Barrier b = read(barrier);
    b.bytes -= bytes;
    update(barrier, b);
  });
}

void tma_store(const longer::TensorMap* map, const void* shared, int col, int row, Site site) {
  const order::Quiet quiet;
  check_aligned(shared, 128, site);
  const EmulatedMap made = open_map(map, site);
  counters().global_write_bytes += bytes_inside(made, col, row);
  extra().open_stores[current->linear].push_back({made, shared_offset(shared), col, row});
}

void tma_store_commit() {
  const order::Quiet quiet;
  auto& open = extra().open_stores[current->linear];
  extra().stores[current->linear].push_back(std::move(open));
  open.clear();
}

void tma_store_wait(int left) {
  auto& groups = extra().stores[current->linear];
  while (groups.size() > static_cast<size_t>(left)) {
    for (const Store& store : groups.front()) move_box(store.map, store.from, store.col, store.row, false);
    const order::Quiet quiet;
    groups.pop_front();
  }
}

void wgmma(float* d, int columns, uint64_t a, uint64_t b, bool add, bool transpose_a, bool transpose_b, Product kind, Site site) {
  if (current->block_size.size() % 128) fail("wgmma needs whole groups of four warps", site);
  ProductLane mine{d, columns, a, b, add, transpose_a, transpose_b, true, false, kind};
  meet_warp(0xffffffffu, site, &mine, [](void* const* of_lane, uint32_t) {
    const order::Quiet quiet;
    auto* first = static_cast<ProductLane*>(of_lane[0]);
    WarpProduct product{{}, {}, false, first->columns, static_cast<int>(current->warp), first->a, first->b, first->add, first->transpose_a, first->transpose_b, first->kind};
    for (int lane = 0; lane < 32; ++lane) {
      auto* one = static_cast<ProductLane*>(of_lane[lane]);
      if (one->a != first->a || one->b != first->b || one->add != first->add) first->agree = false;
      product.d[lane] = one->d;
      product.old.insert(product.old.end(), one->d, one->d + one->columns / 2);
    }
    WarpGroups& groups = extra().warps[current->warp];
    product.chained = groups.pending(product.d[0]);
    for (int lane = 0; lane < 32; ++lane) std::memset(product.d[lane], 0xff, sizeof(float) * first->columns / 2);
    groups.open.push_back(std::move(product));
    for (int lane = 0; lane < 32; ++lane) static_cast<ProductLane*>(of_lane[lane])->agree = first->agree, static_cast<ProductLane*>(of_lane[lane])->fenced = groups.fenced;
  }, false);
  if (!mine.fenced) fail("no wgmma.fence orders the accumulators since the last wait", site);
  if (!mine.agree) fail("the lanes of a warp give different descriptors", site);
}

// The ISA wants a fence before registers that anything else may have touched are accumulators: after every wait, here.
void wgmma_fence(Site site) {
  meet_warp(0xffffffffu, site, nullptr, [](void* const*, uint32_t) {
    const order::Quiet quiet;
    extra().warps[current->warp].fenced = true;
  }, false);
}

void wgmma_commit(Site site) {
  meet_warp(0xffffffffu, site, nullptr, [](void* const*, uint32_t) {
    const order::Quiet quiet;
    WarpGroups& groups = extra().warps[current->warp];
    groups.committed.push_back(std::move(groups.open));
    groups.open.clear();
  }, false);
}

void wgmma_wait(int left, Site site) {
  meet_warp(0xffffffffu, site, &left, [](void* const* of_lane, uint32_t) {
    WarpGroups& groups = extra().warps[current->warp];
    {
      const order::Quiet quiet;
      groups.fenced = false;
    }
    while (groups.committed.size() > static_cast<size_t>(*static_cast<int*>(of_lane[0]))) {
      std::vector<WarpProduct> group;
      {
        const order::Quiet quiet;
        group = std::move(groups.committed.front());
        groups.committed.pop_front();
      }
      for (size_t i = 0; i < group.size(); ++i) run_next(groups, group, i);
      const order::Quiet quiet;
      std::vector<WarpProduct>().swap(group);
    }
  }, true);
}

void set_registers(int count, Site site) {
  if (count < 24 || count > 256 || count % 8) fail("setmaxnreg takes a multiple of 8 from 24 to 256", site);
  meet_warp(0xffffffffu, site, nullptr, nullptr, false);
}

}  // namespace simt
