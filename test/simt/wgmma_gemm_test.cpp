// The product by wgmma and TMA (wgmma_gemm.cuh): which products it takes, that it is right at every kind of edge, what it costs, and
// that a row has the same bits alone and among others.
#include "kernels/cuda/product_kernel.h"
#include "kernels/dense_kernels.h"
#include "simt/dice.h"
#include "simt/op_case.h"
#include "simt/subject.h"

using namespace longer;
using simt::Dice;
using simt::OpCase;

namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
constexpr bool kWatched = SIMT_TIER[0] == 't';

int64_t tiles(int64_t size, int64_t each) { return (size + each - 1) / each; }
int64_t padded(int64_t size, int64_t each) { return tiles(size, each) * each; }

// FLOPs of whole tiles, to the last slab of 64 of the depth.
int64_t tile_flops(int64_t rows, int64_t columns, int64_t width, int64_t depth) { return 2 * padded(rows, 128) * padded(columns, width) * padded(depth, 64); }

void choice() {
  using cuda::ProductKernel;
  const Gpu hopper{90, 132, true}, plain_90{90, 132, false};
  const auto takes = [](const Gpu& gpu, DType type, int64_t rows, int64_t columns, int64_t depth, int64_t pitch) {
    return cuda::product_kernel({type, rows, columns, depth, std::min(columns, depth), {depth, pitch, columns}}, gpu) == ProductKernel::wgmma;
  };
  for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{64}, int64_t{262144}, int64_t{1} << 30})
    simt::expect(takes(hopper, bf16, rows, 256, 256, 256), "the kernel depends on the rows: " + std::to_string(rows));
  simt::expect(takes(hopper, bf16, 5, 32, 32, 32) && takes(hopper, bf16, 5, 1032, 4096, 1032), "widths of 32 and more are not taken");
  simt::expect(takes(hopper, f16, 128, 256, 256, 256), "f16 is not taken");
  simt::expect(!takes(hopper, f32, 128, 256, 256, 256), "f32 is taken");
  simt::expect(!takes(hopper, bf16, 128, 256, 252, 256) && !takes(hopper, bf16, 128, 260, 256, 256) && !takes(hopper, bf16, 128, 256, 256, 257), "rows that are no multiple of 16 bytes are taken");
  simt::expect(!takes(hopper, bf16, 128, 24, 256, 24) && !takes(hopper, bf16, 128, 256, 24, 256), "narrow ones are taken");
  simt::expect(!takes(hopper, bf16, int64_t{1} << 31, 256, 256, 256), "more rows than a coordinate counts are taken");
  simt::expect(!takes(plain_90, bf16, 128, 256, 256, 256), "taken where the binary has no code for it");
  for (const auto& [columns, width] : std::vector<std::pair<int64_t, int>>{{32, 64}, {64, 64}, {72, 128}, {128, 128}, {256, 256}, {320, 128}, {384, 128}, {512, 256}, {768, 256}, {1000, 256}, {1024, 256}})
    simt::expect(cuda::wgmma_columns(columns) == width, "tiles for " + std::to_string(columns) + " columns are " + std::to_string(cuda::wgmma_columns(columns)) + " wide");
}

// Values of w that bf16 (and, save the smallest, f16) holds: an f32 one is rounded as it is multiplied.
void add_weight(OpCase& c, Dice& d, DType type, int64_t rows, int64_t columns) {
  std::vector<double> held = d.numbers(rows * columns, -1, 1);
  for (double& e : held) e = simt::rounded(e, bf16);
  c.in(type, {rows, columns}, held);
}
void maybe(OpCase& c, Dice& d, int64_t rows, int64_t columns) { d.coin() ? c.in(d.type(), {rows, columns}, -1, 1) : c.in_absent(); }

OpCase linear(Dice& d, DType operands, int64_t rows, int64_t depth, int64_t columns) {
  OpCase c("linear", reference::linear, 1);
  c.in(operands, {rows, depth}, -1, 1);
  add_weight(c, d, d.type(), depth, columns);
  d.coin() ? c.in(f32, {columns}, -1, 1) : c.in_absent();
  maybe(c, d, rows, columns);
  c.out(d.type(), {rows, columns});
  d.coin() ? c.out(d.type(), {rows, columns}) : c.out_absent();
  c.attributes({static_cast<double>(d.whole(0, 5))});
  return c;
}

OpCase linear_dx(Dice& d, DType operands, int64_t rows, int64_t depth, int64_t columns) {
  OpCase c("linear_dx", reference::linear_dx, 1);
  c.in(operands, {rows, depth}, -1, 1);
  add_weight(c, d, d.type(), columns, depth);
  maybe(c, d, rows, columns), maybe(c, d, rows, columns);
  c.out(d.type(), {rows, columns}).attributes({static_cast<double>(d.whole(0, 5))});
  return c;
}

OpCase linear_dw(Dice& d, DType operands, int64_t rows, int64_t ins, int64_t outs) {
  OpCase c("linear_dw", reference::linear_dw, 1);
  c.in(operands, {rows, ins}, -1, 1).in(operands, {rows, outs}, -1, 1).out(f32, {ins, outs});
  d.coin() ? c.out(f32, {outs}) : c.out_absent();
  return c;
}

// Right, by this kernel (its FLOPs are those of whole tiles), and the same bits whatever the schedule.
void right(Device& device, OpCase c, int64_t flops) {
  simt::options().schedule = simt::Schedule::random;
  simt::counters() = {};
  c.check(device, 2.05, simt::emulated ? 2e-6 : 1e-5);
  if (!simt::emulated) return;
  simt::expect(simt::counters().mma_flops == flops, c.describe() + " multiplies " + std::to_string(simt::counters().mma_flops) + ", its tiles " + std::to_string(flops));
  simt::expect(simt::counters().bank_conflicts == 0, c.describe() + " has bank conflicts");
  if (kWatched) return;
  for (const simt::Schedule other : {simt::Schedule::forward, simt::Schedule::reverse}) c.check_same_bits(device, other);
}

void edges(Device& device) {
  struct Size {
    int64_t rows, depth, columns;
  };
  // A row and one more than a tile; depths of less than a slab, of tails of 8, of more slabs than the ring has stages; each width of tile.
  const std::vector<Size> sizes = kWatched ? std::vector<Size>{{129, 136, 72}} : std::vector<Size>{{1, 32, 32}, {129, 40, 64}, {127, 64, 72}, {130, 200, 136}, {300, 328, 264}, {700, 96, 40}, {520, 576, 32}, {64, 72, 512}};
  Dice d(4);
  int64_t seed = 0;
  for (const Size& s : sizes) {
    simt::options().seed = static_cast<uint64_t>(++seed);
    const int64_t width = cuda::wgmma_columns(s.columns);
    for (const DType operands : {bf16, f16}) {
      right(device, linear(d, operands, s.rows, s.depth, s.columns), tile_flops(s.rows, s.columns, width, s.depth));
      right(device, linear_dx(d, operands, s.rows, s.depth, s.columns), tile_flops(s.rows, s.columns, width, s.depth));
      right(device, linear_dw(d, operands, s.rows, s.depth, s.columns), tile_flops(s.depth, s.columns, 128, s.rows));
    }
  }
}

// Each operand is read once a tile, in the bytes that it has; results are written once, in whole sectors.
void cost(Device& device) {
  const int64_t rows = 304, depth = 136, columns = 256 + 64;  // 3 x 3 tiles of 128 columns
  simt::counters() = {};
  OpCase c("linear", reference::linear, 1);
  c.in(bf16, {rows, depth}, -1, 1).in(bf16, {depth, columns}, -1, 1).out(bf16, {rows, columns}).attributes({1}).run_device(device);
  simt::expect(simt::counters().global_read_bytes == 2 * (3 * rows * depth + 3 * depth * columns), "linear reads more than a tile's operands");
  simt::expect(simt::counters().global_write_bytes == 2 * rows * columns, "linear writes more than its result");
  simt::expect(simt::counters().global_sectors == 2 * rows * columns / 32, "linear stores parts of sectors");
  simt::expect(simt::counters().launches == 1 && simt::counters().blocks == 4, "linear has other blocks than the GPU has multiprocessors");
  simt::counters() = {};
  OpCase more("linear", reference::linear, 1);
  more.in(bf16, {rows, depth}, -1, 1).in(bf16, {depth, columns}, -1, 1).in(f32, {columns}, -1, 1).in(bf16, {rows, columns}, -1, 1).out(bf16, {rows, columns}).attributes({1}).run_device(device);
  // Residual and result; of the bias each half of a lane's pack for itself, 2 x 4 sectors for 8 rows and 32 columns.
  simt::expect(simt::counters().global_sectors == 2 * (2 * rows * columns) / 32 + rows / 8 * columns / 32 * 8, "linear moves parts of sectors");
}

// A row has the same bits alone, first, last and among others.
void row_alone(Device& device, int64_t depth, int64_t columns) {
  constexpr int64_t kRows = 150;
  Dice d(9);
  const std::vector<double> x = d.numbers(kRows * depth, -1, 1), w = d.numbers(depth * columns, -1, 1), residual = d.numbers(kRows * columns, -1, 1);
  const auto run = [&](int64_t first, int64_t count) {
    OpCase c("linear", reference::linear, 1);
    c.in(bf16, {count, depth}, std::vector<double>(x.begin() + first * depth, x.begin() + (first + count) * depth)).in(f32, {depth, columns}, w).in_absent();
    c.in(bf16, {count, columns}, std::vector<double>(residual.begin() + first * columns, residual.begin() + (first + count) * columns));
    c.out(f32, {count, columns}).attributes({1});
    c.run_device(device);
    return c.result(0);
  };
  const auto all = run(0, kRows);
  bool same = true;
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {77, 1}, {149, 1}, {3, 130}, {127, 2}}) {
    const auto some = run(first, count);
    same = same && std::equal(some.begin(), some.end(), all.begin() + first * columns);
  }
  simt::expect(same, "a row of " + std::to_string(depth) + " x " + std::to_string(columns) + " depends on the others");
}

}  // namespace

int main() {
  auto device = simt::open_subject();
  choice();
  edges(*device);
  if (simt::emulated && !kWatched) cost(*device);
  if (!kWatched) {
    row_alone(*device, 200, 136);
    row_alone(*device, 96, 264);
  }
  return simt::report("wgmma_gemm_test " SIMT_TIER);
}
