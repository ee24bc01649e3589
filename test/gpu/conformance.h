// Does each function of ptx.cuh do on a GPU what the emulator says? A case is a small kernel (conformance_kernels.cuh), compiled
// for both, with random words as its input; what comes out is compared word by word.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace conformance {

enum class Fill {
  bits,       // any word
  numbers,    // floats of size 1/16 to 16
  halves,     // pairs of such bf16 (f16: the same patterns, of another size)
  whole,      // floats k / 8, |k| <= 16: sums of products are exact
  whole_bf16, // pairs of such
  whole_f16,
};
enum class Compare {
  bits,     // bit for bit
  nan,      // bit for bit, but any NaN of a float is any other
  nan_pair, // the same of two halves (f16 or bf16)
  approx,   // floats, to 2 units in the last place
  sum,      // floats, to rounding of a sum: 2^-20 of the sum of the magnitudes of its terms
};

struct Case {
  const char* name;
  Fill fill;
  Compare compare;
  int in, out;              // words
  int architecture;         // 80, 90, or 900 for sm_90a alone
};

std::vector<Case> cases();
// out[0 .. words): all ones where the kernel writes nothing.
std::vector<uint32_t> run_emulated(int index, const std::vector<uint32_t>& in);

class Words {
 public:
  explicit Words(uint64_t seed) : state_(seed) {}
  std::vector<uint32_t> fill(Fill fill, int count) {
    std::vector<uint32_t> words(static_cast<size_t>(count));
    for (uint32_t& w : words) w = word(fill);
    return words;
  }

 private:
  uint32_t next() {  // xorshift64*
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return static_cast<uint32_t>(state_ * 0x2545f4914f6cdd1dull >> 32);
  }
  static uint32_t bits_of(float f) {
    uint32_t w;
    std::memcpy(&w, &f, 4);
    return w;
  }
  uint32_t word(Fill fill) {
    const uint32_t r = next();
    const auto eighths = [](uint32_t k) { return static_cast<float>(static_cast<int>(k % 33) - 16) / 8; };
    const auto bf16 = [&](uint32_t k) { return bits_of(eighths(k)) >> 16; };
    const auto f16 = [&](uint32_t k) {  // of the same value: exponents by 112 less, three more bits
      const uint32_t w = bits_of(eighths(k));
      return (w & 0x7fffffff) == 0 ? 0u : (w >> 16 & 0x8000) | (((w & 0x7fffffff) >> 13) - (112u << 10));
    };
    switch (fill) {
      case Fill::bits: return r;
      case Fill::numbers: return (r & 0x807fffff) | (123 + next() % 8) << 23;
      case Fill::halves: return (r & 0x807f807f) | (123 + next() % 8) << 7 | (123 + next() % 8) << 23;
      case Fill::whole: return bits_of(eighths(r));
      case Fill::whole_bf16: return bf16(r) | bf16(next()) << 16;
      case Fill::whole_f16: return f16(r) | f16(next()) << 16;
    }
    return r;
  }
  uint64_t state_;
};

inline float float_of(uint32_t w) {
  float f;
  std::memcpy(&f, &w, 4);
  return f;
}

// `magnitude`: of Compare::sum, the same kernel's result for the magnitudes of the input.
inline bool same(Compare compare, uint32_t expected, uint32_t found, uint32_t magnitude) {
  if (expected == found) return true;
  const float e = float_of(expected), f = float_of(found);
  const auto half = [](uint32_t a, uint32_t b) {  // exponents all ones, as either type has them, and a mantissa
    const auto is_nan = [](uint32_t w) { return (w & 0x7c00) == 0x7c00 && (w & 0x03ff); };
    return (a & 0xffff) == (b & 0xffff) || (is_nan(a) && is_nan(b));
  };
  switch (compare) {
    case Compare::bits: return false;
    case Compare::nan: return std::isnan(e) && std::isnan(f);
    case Compare::nan_pair: return half(expected, found) && half(expected >> 16, found >> 16);
    case Compare::approx: return (std::isnan(e) && std::isnan(f)) || std::fabs(e - f) <= std::ldexp(std::fabs(e), -22) + 1.2e-38f;
    case Compare::sum: return std::fabs(e - f) <= std::ldexp(float_of(magnitude), -20);
  }
  return false;
}

// Without the signs of its floats or halves.
inline std::vector<uint32_t> magnitudes(Fill fill, std::vector<uint32_t> words) {
  for (uint32_t& w : words) w &= fill == Fill::numbers || fill == Fill::whole ? 0x7fffffff : 0x7fff7fff;
  return words;
}

// Words that differ from the emulator's.
inline int differences(const Case& c, int index, const std::vector<uint32_t>& in, const std::vector<uint32_t>& found) {
  const std::vector<uint32_t> expected = run_emulated(index, in);
  const std::vector<uint32_t> magnitude = c.compare == Compare::sum ? run_emulated(index, magnitudes(c.fill, in)) : expected;
  int count = 0;
  for (size_t i = 0; i < expected.size(); ++i) count += !same(c.compare, expected[i], found[i], magnitude[i]);
  return count;
}

}  // namespace conformance
