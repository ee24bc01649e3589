#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/attention_vec_avx512.h"

#include "kernels/cpu/attention_tiles.inl"

namespace longer::cpu {

const AttentionTiles& attention_tiles_avx512() {
  static constexpr AttentionTiles tiles = tiles_of<Singles>();
  return tiles;
}

}  // namespace longer::cpu
