// inner_transformer (kernels/inner_transformer.h): a warp takes a tile of events through the whole block in registers. Memory is
// read once for x and written once for y; a block reads the parameters once.
#include "kernels/cuda/inner_transformer.cuh"

namespace longer::cuda {

namespace {

template <class T, int D>
struct InnerShared {
  InnerAttentionWeights<T, D> attention;
  InnerFfnWeights<T, D> ffn;
};

template <class T, int D>
__global__ void __launch_bounds__(32 * kInnerWarps<D>, 2) inner_transformer_kernel(InnerShape s, InnerParameters parameters, const T* x, T* y, int slots) {
  auto& w = shared_memory<InnerShared<T, D>>();
  load_weights(w.attention, parameters);
  load_weights(w.ffn, parameters);
  __syncthreads();
  const int first = blockIdx.x * kInnerWarps<D> + threadIdx.x / 32;
  InnerTiles tiles(s, first);
  for (int slot = first; slot < slots; slot += gridDim.x * kInnerWarps<D>) {
    const InnerTile tile = tiles.at(slot);
    if (tile.events == 0) continue;
    float v[D / 8][4];
    load_rows<T, D>(v, x, tile);
    add_attention<T, D>(v, w.attention, s, tile);
    Left<T> n[D / 16];
    normed<T, D>(n, v, row_statistics(v, s.rms, s.eps), w.ffn.gamma, w.ffn.beta);
    add_vector<D>(v, w.ffn.b2);
#pragma unroll 1
    for (int unit = 0; unit < 4 * D; unit += 16) {  // of the hidden layer, which exists 16 units at a time
      float hidden[2][4] = {};
      multiply_matrix(hidden, n, w.ffn.up, unit);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 b = pair_at(w.ffn.b1 + unit, half);
#pragma unroll
        for (int r = 0; r < 4; ++r) hidden[half][r] = activate(Activation::gelu, hidden[half][r] + (r % 2 ? b.y : b.x));
      }
      const Left<T> h = left_of<T>(hidden);
#pragma unroll
      for (int i = 0; i < D / 16; ++i) {
        Right<T> right;
        load_factor<true>(right, w.ffn.down, 16 * i, unit);
        multiply(v + 2 * i, h, right);
      }
    }
    if (s.outer) add_rows<T, D>(v, x, tile);
    store_rows<T, D>(y, v, tile);
  }
}

}  // namespace

void inner_transformer(const Call& call, const Queue& queue) {
  const InnerTransformerArgs a = inner_transformer_args(call, false);
  const InnerShape s = inner_shape("inner_transformer", a);
  const InnerParameters parameters = inner_parameters("inner_transformer", a.parameter);
  with_inner_form("inner_transformer", a, [&](auto type, auto width) {
    using T = decltype(type);
    constexpr int D = decltype(width)::value;
    const int64_t slots = a.rows ? inner_slots(s) : 0;
    launch(queue.stream, "inner_transformer", inner_transformer_kernel<T, D>, dim3(static_cast<unsigned>(std::min<int64_t>(divide_up(slots, kInnerWarps<D>), kInnerMostBlocks))),
           dim3(32 * kInnerWarps<D>), sizeof(InnerShared<T, D>), s, parameters, static_cast<const T*>(a.x.data), static_cast<T*>(a.y.data), static_cast<int>(slots));
  });
}

}  // namespace longer::cuda
