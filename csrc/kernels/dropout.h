// dropout: y = x * keep / (1 - p). Its own gradient: the same call with dy for x.
//
// Elements are counted from the beginning of the batch. Element e is kept when word e % 4 of Philox4x32-10 is at least p * 2^32. The key is the seed; the counter is
// (low half of e / 4, high half of e / 4, low half of stream, high half of stream).
#pragma once
#include <cmath>

#include "kernels/dense_check.h"
#include "kernels/host_device.h"

namespace longer {

struct DropoutArgs {
  Tensor x, seed, y;
  double p;
  uint64_t stream;
  uint64_t first;  // number of the first element

  uint32_t threshold() const { return static_cast<uint32_t>(std::floor(p * 4294967296.0)); }
};

inline DropoutArgs dropout_args(const Call& call) {
  const DenseCheck check("dropout", call);
  check.counts(2, 2, 1, 1, 2);
  const Tensor seed = call.input(1);
  check.same_shape(call.input(0), call.output(0), "x and y differ in shape");
  check.require(seed.present() && seed.dtype == DType::i32 && seed.size() == 2, "seed must be i32 [2]");
  check.require(call.number(0) >= 0 && call.number(0) < 1, "p must be at least 0 and less than 1");
  return {call.input(0), seed, call.output(0), call.number(0), static_cast<uint64_t>(call.integer(1)),
          static_cast<uint64_t>(call.first_row * call.input(0).cols())};
}

struct PhiloxWords {
  uint32_t word[4];
};

LONGER_BOTH inline PhiloxWords philox4x32_10(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter.word[0], b = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace longer
