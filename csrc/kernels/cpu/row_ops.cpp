#include "kernels/cpu/row_ops.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const RowOps& row_ops() {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx:
    case Isa::avx512bf16:
    case Isa::avx512: return row_ops_avx512();
    case Isa::avx2: return row_ops_avx2();
    case Isa::generic: break;
  }
#endif
  return row_ops_generic();
}

}  // namespace longer::cpu
