#include "runtime/cpu_features.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace longer {

namespace {

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2");
  f.fma = __builtin_cpu_supports("fma");
  f.avx512 = f.avx2 && f.fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  f.avx512bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return f;
}

bool has(Isa isa) {
  const CpuFeatures& f = cpu_features();
  switch (isa) {
    case Isa::generic: return true;
    case Isa::avx2: return f.avx2 && f.fma;
    case Isa::avx512: return f.avx512;
    case Isa::avx512bf16: return f.avx512bf16;
  }
  return false;
}

Isa choose() {
  const Isa all[] = {Isa::avx512bf16, Isa::avx512, Isa::avx2, Isa::generic};
  if (const char* wanted = std::getenv("LONGER_ISA")) {
    for (const Isa isa : all) {
      if (std::string(wanted) != isa_name(isa)) continue;
      if (!has(isa)) throw std::runtime_error(std::string("LONGER_ISA=") + wanted + ": this CPU does not have it");
      return isa;
    }
    throw std::runtime_error(std::string("LONGER_ISA=") + wanted + ": expected generic, avx2, avx512 or avx512bf16");
  }
  for (const Isa isa : all)
    if (has(isa)) return isa;
  return Isa::generic;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512bf16: return "avx512bf16";
  }
  return "?";
}

}  // namespace longer
