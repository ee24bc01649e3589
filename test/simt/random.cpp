#include "simt/random.h"

namespace simt {

uint64_t Random::operator()() {
  uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

double Random::number(double low, double high) { return low + (high - low) * static_cast<double>((*this)() >> 11) * 0x1p-53; }

}  // namespace simt
