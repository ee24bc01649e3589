#include "kernels/cpu/step_ops.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const StepOps& step_ops() {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx:
    case Isa::avx512bf16:
    case Isa::avx512: return step_ops_avx512();
    case Isa::avx2: return step_ops_avx2();
    case Isa::generic: break;
  }
#endif
  return step_ops_generic();
}

}  // namespace longer::cpu
