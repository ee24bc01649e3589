// The machine's own limits: fused multiply-adds in registers, and copying.
#pragma once
#include <cstdint>

#include "runtime/thread_pool.h"

namespace bench {

enum class Precision { f32, bf16 };

// Multiply-adds on registers alone, on every thread of the pool, with the widest vectors that the kernels may use
// (LONGER_ISA counts). Returns the FLOPs that were done; 0 where the CPU has no such instruction.
double peak_burst(Precision precision, longer::ThreadPool& pool, int64_t repeats);

// Repeats that take about a millisecond on a fast core.
constexpr int64_t kBurst = 150000;

}  // namespace bench
