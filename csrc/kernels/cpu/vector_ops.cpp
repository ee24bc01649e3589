#include "kernels/cpu/vector_ops.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const VectorOps& vector_ops() {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx:
    case Isa::avx512bf16:
    case Isa::avx512: return vector_ops_avx512();
    case Isa::avx2: return vector_ops_avx2();
    case Isa::generic: break;
  }
#endif
  return vector_ops_generic();
}

}  // namespace longer::cpu
