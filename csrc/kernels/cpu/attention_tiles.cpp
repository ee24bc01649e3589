#include "kernels/cpu/attention_tiles.h"

#include "runtime/cpu_features.h"

namespace longer::cpu {

const AttentionTiles& attention_tiles(bool pairs) {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx: return attention_tiles_avx512();  // CPUs with AMX multiply pairs of bf16 at half the rate of f32
    case Isa::avx512bf16: return pairs ? attention_tiles_avx512bf16() : attention_tiles_avx512();
    case Isa::avx512: return attention_tiles_avx512();
    case Isa::avx2: return attention_tiles_avx2();
    case Isa::generic: break;
  }
#endif
  (void)pairs;
  return attention_tiles_generic();
}

}  // namespace longer::cpu
