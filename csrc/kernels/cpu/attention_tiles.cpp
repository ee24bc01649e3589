#include "kernels/cpu/attention_tiles.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const AttentionTiles& attention_tiles() {
  switch (active_isa()) {
    case Isa::avx512:
    case Isa::avx512bf16: return attention_tiles_avx512();
    case Isa::avx2: return attention_tiles_avx2();
    default: return attention_tiles_generic();
  }
}

}  // namespace longer::cpu
