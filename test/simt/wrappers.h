// What the tests of ptx.cuh share.
#pragma once
#include <cmath>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "simt/check.h"
#include "simt/random.h"

namespace simt {

namespace ptx = longer::ptx;

inline Random bits(3);

// What many CUDA threads find true together.
class Verdict {
 public:
  Verdict(bool value) : value_(value) {}
  operator bool() const { return __atomic_load_n(&value_, __ATOMIC_RELAXED); }
  Verdict& operator=(bool value) {
    __atomic_store_n(&value_, value, __ATOMIC_RELAXED);
    return *this;
  }

 private:
  bool value_;
};

struct Tile {
  uint16_t at[64][64];
};
struct WideSmem {
  alignas(1024) Tile tile;
  alignas(1024) Tile other;
  uint64_t barrier[4];
};

template <class Kernel>
void run(dim3 grid, dim3 block, size_t shared, Kernel kernel) { simt::launch("wrappers", grid, block, shared, kernel); }

inline float small() { return static_cast<float>(static_cast<int>(bits() % 33) - 16) / 8; }  // exact in every type

enum class Type { bf16, f16, tf32 };
inline uint32_t encode(float v, Type type) {
  if (type == Type::tf32) return ptx::to_tf32(v);
  return (type == Type::bf16 ? ptx::pack_bf16(v, 0) : ptx::pack_f16(v, 0)) & 0xffff;
}

}  // namespace simt
