// What the CPU can do, and which kernels are to be used.
#pragma once

namespace longer {

struct CpuFeatures {
  bool avx2 = false, fma = false;
  bool avx512 = false;  // F, BW, DQ and VL together
  bool avx512bf16 = false;
  bool amx = false;  // TILE and BF16, and the system lets this process use them
};

const CpuFeatures& cpu_features();

enum class Isa { generic, avx2, avx512, avx512bf16, amx };

// The best that the CPU has, or what LONGER_ISA=generic|avx2|avx512|avx512bf16|amx asks for.
// Throws std::runtime_error for an unknown name or one that this CPU lacks.
Isa active_isa();
const char* isa_name(Isa isa);

}  // namespace longer
