#include "kernels/cpu/gemm.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const GemmKernel& gemm_kernel(bool bf16_product) {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx: return bf16_product ? gemm_amx() : gemm_avx512();
    case Isa::avx512bf16: return bf16_product ? gemm_avx512bf16() : gemm_avx512();
    case Isa::avx512: return gemm_avx512();
    case Isa::avx2: return gemm_avx2();
    case Isa::generic: break;
  }
#endif
  (void)bf16_product;
  return gemm_generic();
}

}  // namespace longer::cpu
