// norm and norm_dx on the emulated device against the reference.
#include "kernels/dense_kernels.h"
#include "simt/op_case.h"
#include "simt/subject.h"

using namespace longer;
using simt::OpCase;

namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;

std::vector<double> values(size_t count, double low, double high, uint64_t seed) {
  simt::Random random(seed);
  std::vector<double> v(count);
  for (double& e : v) e = random.number(low, high);
  return v;
}

void both_ways(Device& device, DType type, bool rms, int64_t rows, int64_t width, double centre, bool optional, uint64_t seed) {
  const std::vector<double> x = values(static_cast<size_t>(rows * width), centre - 2, centre + 2, seed);
  OpCase forward("norm", reference::norm, seed);
  forward.in(type, {rows, width}, x).in(f32, {width}, 0.5, 1.5);
  if (optional) forward.in(f32, {width}, -1, 1);
  else forward.in_absent();
  forward.out(type, {rows, width});
  if (rms) forward.out_absent();
  else forward.out(f32, {rows});
  forward.out(f32, {rows}).attributes({rms ? 1.0 : 0.0, 1e-5}).check(device, 2, 2e-6 * (1 + std::fabs(centre)));

  // The reference's own statistics go in, so that only the op's error is seen.
  OpCase backward("norm_dx", reference::norm_dx, seed + 1);
  backward.in(type, {rows, width}, x).in(f32, {width}, 0.5, 1.5);
  if (rms) backward.in_absent();
  else backward.in(f32, {rows}, forward.exact_out(1));
  backward.in(f32, {rows}, forward.exact_out(2)).in(type, {rows, width}, -1, 1);
  if (optional) backward.in(type, {rows, width}, -1, 1);
  backward.out(type, {rows, width}).out(f32, {width});
  if (optional) backward.out(f32, {width});
  backward.attributes({rms ? 1.0 : 0.0}).check(device, 3, 5e-6 * (1 + std::fabs(centre)));
}

// Where parts of a model are f32: x, dy, add and dx each of its own type, save that x and dy are not of two types of 16 bits.
void mixed_types(Device& device) {
  const DType types[] = {f32, bf16, f16};
  for (const DType x : types)
    for (const DType dy : types)
      for (const DType add : types) {
        if (x != dy && x != f32 && dy != f32) continue;
        OpCase c("norm_dx", reference::norm_dx, 5);
        c.in(x, {9, 40}, -2, 2).in(f32, {40}, 0.5, 1.5).in_absent().in(f32, {9}, 0.5, 1).in(dy, {9, 40}, -1, 1).in(add, {9, 40}, -1, 1);
        c.out(add == f32 ? dy : f32, {9, 40}).out(f32, {40}).attributes({1}).check(device, 3, 5e-6);
        OpCase forward("norm", reference::norm, 6);
        forward.in(x, {9, 40}, -2, 2).in(f32, {40}, 0.5, 1.5).in_absent().out(dy, {9, 40}).attributes({1, 1e-5}).check(device, 2, 2e-6);
      }
}

// Reads x once, writes y once: with the statistics and gamma nothing else passes through global memory.
void cost(Device& device) {
  simt::counters() = {};
  OpCase c("norm", reference::norm, 3);
  c.in(bf16, {64, 256}, -1, 1).in(f32, {256}, 0.5, 1.5).in_absent().out(bf16, {64, 256}).out_absent().out_absent().attributes({0, 1e-5});
  c.run_device(device);
  simt::expect(simt::counters().global_read_bytes == 64 * 256 * 2 + 64 * 256 * 4, "norm reads x and, from cache, gamma, once a row");
  simt::expect(simt::counters().global_write_bytes == 64 * 256 * 2, "norm writes y once");
  simt::expect(simt::counters().global_sectors == 64 * (16 + 2 * 32 + 16), "norm reads whole sectors: x and y 16 a row; gamma, two loads 32 bytes apart, each of its 32 twice");
}

}  // namespace

int main() {
  auto device = simt::open_subject();
  const bool slow = std::string(SIMT_TIER) == "tsan";
  for (int round = 0; round < (slow ? 1 : 3); ++round) {
    simt::options().schedule = round == 0 ? simt::Schedule::random : round == 1 ? simt::Schedule::forward : simt::Schedule::reverse;
    simt::options().seed = 11 + round;
    uint64_t seed = 100 * round;
    for (const DType type : {bf16, f16, f32})
      for (const bool rms : {false, true})
        for (const bool optional : {false, true}) {
          both_ways(*device, type, rms, 1, 1, 0, optional, ++seed);
          both_ways(*device, type, rms, 9, 8, 0, optional, ++seed);
          both_ways(*device, type, rms, 13, 37, 1, optional, ++seed);
          both_ways(*device, type, rms, 19, 256, 0, optional, ++seed);
          both_ways(*device, type, rms, 5, 520, 0, optional, ++seed);
          if (slow) continue;
          both_ways(*device, type, rms, 3, 1000, 20, optional, ++seed);
          both_ways(*device, type, rms, 3, 2056, 0, optional, ++seed);
          both_ways(*device, type, rms, 0, 64, 0, optional, ++seed);
        }
  }
  mixed_types(*device);
  if (simt::emulated) cost(*device);
  return simt::report("norm_test " SIMT_TIER);
}
