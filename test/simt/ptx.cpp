// What a warp does together: shuffles, votes, matrix exchange, mma.
#include "simt/ptx.h"

namespace simt {

namespace {

constexpr uint32_t kWarp = 0xffffffffu;

struct ShuffleLane {
  uint64_t value, result;
  int from;
};

struct VoteLane {
  uint64_t value;
  uint32_t result;
};

struct MatrixLane {
  uint32_t* row;        // 8 elements of 2 bytes
  uint32_t* registers;
  int matrices;
  bool transposed, store;
};

struct MmaLane {
  float* d;
  const uint32_t *a, *b;
  Product kind;
};

uint16_t half_of(uint32_t word, int which) { return static_cast<uint16_t>(word >> (16 * which)); }

void run_matrices(void* const* of_lane, uint32_t) {
  const auto lane = [of_lane](int i) -> MatrixLane& { return *static_cast<MatrixLane*>(of_lane[i]); };
  const MatrixLane& any = lane(0);
  for (int j = 0; j < any.matrices; ++j)
    for (int l = 0; l < 32; ++l) {
      uint32_t& value = lane(l).registers[j];
      if (!any.transposed) {
        uint32_t& word = lane(8 * j + l / 4).row[l % 4];
        if (any.store) word = value;
        else value = word;
        continue;
      }
      uint32_t pair = 0;
      for (int half = 0; half < 2; ++half) {
        auto* element = reinterpret_cast<uint16_t*>(lane(8 * j + 2 * (l % 4) + half).row) + l / 4;
        if (any.store) std::memcpy(element, reinterpret_cast<uint16_t*>(&value) + half, 2);
        uint16_t bits;
        std::memcpy(&bits, element, 2);
        pair |= uint32_t{bits} << (16 * half);
      }
      if (!any.store) value = pair;
    }
}

float number(uint32_t bits, Product kind) { return kind == Product::bf16 ? __uint_as_float(bits << 16) : f16_to_f32(bits); }

void run_mma(void* const* of_lane, uint32_t) {
  const auto lane = [of_lane](int i) -> MmaLane& { return *static_cast<MmaLane*>(of_lane[i]); };
  const Product kind = lane(0).kind;
  const int depth = kind == Product::tf32 ? 8 : 16;
  float a[16][16], b[8][16];
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    if (kind == Product::tf32) {  // the tensor core looks at the upper 19 bits
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = __uint_as_float(lane(l).a[i] & 0xffffe000u);
      for (int i = 0; i < 2; ++i) b[g][t + 4 * i] = __uint_as_float(lane(l).b[i] & 0xffffe000u);
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][8 * (i / 2) + 2 * t + half] = number(half_of(lane(l).a[i], half), kind);
      for (int i = 0; i < 2; ++i) b[g][8 * i + 2 * t + half] = number(half_of(lane(l).b[i], half), kind);
    }
  }
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const float* row = a[l / 4 + 8 * (i / 2)];
      const float* column = b[2 * (l % 4) + i % 2];
      double sum = lane(l).d[i];
      for (int k = 0; k < depth; ++k) sum += static_cast<double>(row[k]) * column[k];
      lane(l).d[i] = static_cast<float>(sum);
    }
  counters().mma_flops += 2 * 16 * 8 * depth;
}

}  // namespace

uint64_t shuffle(uint32_t mask, uint64_t value, int by, Shuffle kind, int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1))) fail("the width of a shuffle must be a power of two up to 32", site);
  const int lane = static_cast<int>(current->lane), first = lane / width * width, last = first + width - 1;
  int from = lane;
  switch (kind) {
    case Shuffle::index: from = first + (by & (width - 1)); break;
    case Shuffle::up: from = lane - by < first ? lane : lane - by; break;
    case Shuffle::down: from = lane + by > last ? lane : lane + by; break;
    case Shuffle::exclusive: from = (lane ^ by) > last ? lane : lane ^ by; break;
  }
  if (!(mask >> from & 1)) fail("a shuffle reads lane " + std::to_string(from) + ", which the mask does not name", site);
  ShuffleLane mine{value, 0, from};
  meet_warp(mask, site, &mine, [](void* const* of_lane, uint32_t lanes) {
    for (int i = 0; i < 32; ++i)
      if (lanes >> i & 1) {
        auto* one = static_cast<ShuffleLane*>(of_lane[i]);
        one->result = static_cast<ShuffleLane*>(of_lane[one->from])->value;
      }
  }, false);
  return mine.result;
}

uint32_t ballot(uint32_t mask, bool vote, Site site) {
  VoteLane mine{vote, 0};
  meet_warp(mask, site, &mine, [](void* const* of_lane, uint32_t lanes) {
    uint32_t votes = 0;
    for (int i = 0; i < 32; ++i)
      if ((lanes >> i & 1) && static_cast<VoteLane*>(of_lane[i])->value) votes |= 1u << i;
    for (int i = 0; i < 32; ++i)
      if (lanes >> i & 1) static_cast<VoteLane*>(of_lane[i])->result = votes;
  }, false);
  return mine.result;
}

uint32_t match(uint32_t mask, uint64_t value, Site site) {
  VoteLane mine{value, 0};
  meet_warp(mask, site, &mine, [](void* const* of_lane, uint32_t lanes) {
    for (int i = 0; i < 32; ++i)
      for (int j = 0; j < 32; ++j)
        if ((lanes >> i & 1) && (lanes >> j & 1) && static_cast<VoteLane*>(of_lane[i])->value == static_cast<VoteLane*>(of_lane[j])->value)
          static_cast<VoteLane*>(of_lane[i])->result |= 1u << j;
  }, false);
  return mine.result;
}

void exchange_matrices(uint32_t (*row)[4], int matrices, bool transposed, bool store, uint32_t* registers, Site site) {
  MatrixLane mine{*row, registers, matrices, transposed, store};
  meet_warp(kWarp, site, &mine, run_matrices, false);
}

void mma(float* d, const uint32_t* a, const uint32_t* b, Product kind, Site site) {
  MmaLane mine{d, a, b, kind};
  meet_warp(kWarp, site, &mine, run_mma, false);
}

uint32_t f32_to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

uint32_t f32_to_f16(float value) {
  const uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7fff;
  if (size >= 0x477ff000u) return sign | 0x7c00u;  // rounds to 2^16 or more
  if (size < 0x38800000u)                          // a multiple of 2^-24
    return sign | static_cast<uint32_t>(std::nearbyint(std::ldexp(static_cast<double>(__uint_as_float(size)), 24)));
  return sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
}

float f16_to_f32(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return std::copysign(std::ldexp(static_cast<float>(fraction), -24), __uint_as_float(sign | 0x3f800000u));
  return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

}  // namespace simt
