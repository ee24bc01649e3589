#include "runtime/cpu_features.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace longer {

namespace {

// Linux lends the tile registers to a process that asks for them, all of its threads included.
bool lent_amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0) return false;
  constexpr long kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2");
  f.fma = __builtin_cpu_supports("fma");
  f.avx512 = f.avx2 && f.fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  f.avx512bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
  f.amx = f.avx512bf16 && lent_amx();
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
    case Isa::amx: return f.amx;
  }
  return false;
}

Isa choose() {
  const Isa all[] = {Isa::amx, Isa::avx512bf16, Isa::avx512, Isa::avx2, Isa::generic};
  if (const char* wanted = std::getenv("LONGER_ISA")) {
    for (const Isa isa : all) {
      if (std::string(wanted) != isa_name(isa)) continue;
      if (!has(isa)) throw std::runtime_error(std::string("LONGER_ISA=") + wanted + ": this CPU does not have it");
      return isa;
    }
    throw std::runtime_error(std::string("LONGER_ISA=") + wanted + ": expected generic, avx2, avx512, avx512bf16 or amx");
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
    case Isa::amx: return "amx";
  }
  return "?";
}

}  // namespace longer
