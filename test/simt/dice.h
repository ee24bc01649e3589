// Random shapes, types and values of an operation's cases; the same seed gives the same case.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "runtime/tensor.h"
#include "simt/random.h"

namespace simt {

class Dice {
 public:
  // small: fewer rows and columns, for the tier that takes long over each thread; still more than a tile, a warp, a block.
  explicit Dice(uint64_t seed, bool small = false) : bits_(seed), small_(small) {}
  int64_t whole(int64_t low, int64_t high) { return low + static_cast<int64_t>(bits_() % static_cast<uint64_t>(high - low + 1)); }
  bool coin() { return bits_() & 1; }
  double number(double low, double high) { return bits_.number(low, high); }
  longer::DType type() { return one_of({longer::DType::f32, longer::DType::bf16, longer::DType::f16}); }
  template <class T>
  T one_of(std::initializer_list<T> list) { return list.begin()[bits_() % list.size()]; }
  // TSan keeps every thread of a launch and has room for some 20,000: few enough blocks where each row or pair has one.
  int64_t most(int64_t usual, int64_t where_small) const { return small_ ? where_small : usual; }
  // One of these numbers of rows or columns.
  int64_t size(std::initializer_list<int64_t> list) { return shrunk(one_of(list)); }
  int64_t rows() { return size({0, 1, 2, 7, 33, 90}); }
  int64_t width() { return size({1, 3, 8, 16, 37, 64, 104, 272}); }
  // Of segments that are empty, short, or now and then long.
  std::vector<int32_t> offsets(int64_t segments, int64_t longest = 150) {
    std::vector<int32_t> list{0};
    for (int64_t i = 0; i < segments; ++i) list.push_back(list.back() + static_cast<int32_t>(whole(0, 7) ? whole(0, 9) : whole(0, shrunk(longest))));
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
  int64_t shrunk(int64_t size) const { return small_ && size > 64 ? std::max<int64_t>(70, size / 4) : size; }

  Random bits_;
  bool small_;
};

}  // namespace simt
