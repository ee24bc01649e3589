// Random shapes, types and values of an operation's cases; the same seed gives the same case.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "runtime/tensor.h"
#include "simt/random.h"

namespace simt {

class Dice {
 public:
  explicit Dice(uint64_t seed) : bits_(seed) {}
  int64_t whole(int64_t low, int64_t high) { return low + static_cast<int64_t>(bits_() % static_cast<uint64_t>(high - low + 1)); }
  bool coin() { return bits_() & 1; }
  double number(double low, double high) { return bits_.number(low, high); }
  longer::DType type() { return coin() ? longer::DType::f32 : longer::DType::bf16; }
  template <class T>
  T one_of(std::initializer_list<T> list) { return list.begin()[bits_() % list.size()]; }
  int64_t rows() { return one_of<int64_t>({0, 1, 2, 7, 33, 90}); }
  int64_t width() { return one_of<int64_t>({1, 3, 8, 16, 37, 64, 104, 272}); }
  // Of segments that are empty, short, or now and then long.
  std::vector<int32_t> offsets(int64_t segments, int64_t longest = 150) {
    std::vector<int32_t> list{0};
    for (int64_t i = 0; i < segments; ++i) list.push_back(list.back() + static_cast<int32_t>(whole(0, 7) ? whole(0, 9) : whole(0, longest)));
    return list;
  }
  std::vector<int32_t> whole_list(int64_t count, int64_t low, int64_t high) {
    std::vector<int32_t> list;
    for (int64_t i = 0; i < count; ++i) list.push_back(static_cast<int32_t>(whole(low, high)));
    return list;
  }
  std::vector<double> numbers(int64_t count, double low, double high) {
    std::vector<double> list;
    for (int64_t i = 0; i < count; ++i) list.push_back(number(low, high));
    return list;
  }

 private:
  Random bits_;
};

}  // namespace simt
