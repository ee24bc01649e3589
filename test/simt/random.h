// The emulator's random numbers (SplitMix64). Not inline: tests are instrumented by sanitizers, the emulator is not, and a
// generator that both instantiate, as the standard's are, would be watched when the emulator uses it between CUDA threads.
#pragma once
#include <cstdint>

namespace simt {

class Random {
 public:
  explicit Random(uint64_t seed = 1) : state_(seed) {}
  uint64_t operator()();
  double number(double low, double high);  // low <= x < high

 private:
  uint64_t state_;
};

}  // namespace simt
