# The kernels of inner_transformer with one mistake each (mutants.cmake), for planted_inner_test.
begin_mutants(INNER_MUTANTS)

# inner_mutant(NAME): of bf16 and width 32 alone, and of two blocks, so that a small case goes several rounds.
macro(inner_mutant name)
  add_mutant(${name})
  edit(inner_weights.cuh [[kInnerMostBlocks = 264]] [[kInnerMostBlocks = 2]])
  edit(inner_transformer.cuh [[    if (a.width == 16) run(type, std::integral_constant<int, 16>());
    else if (a.width == 32)]] [[    if (a.width == 32)]])
  edit(inner_transformer.cuh [[else if (a.x.dtype == DType::f16) sized(Half{});]] [[]])
endmacro()

inner_mutant(inner_nothing)

# ---- tiles and groups, of both kernels

inner_mutant(inner_wrong_mask)
edit(inner_transformer.cuh [[row / s.group == key / s.group]] [[row / s.group >= key / s.group]])

inner_mutant(inner_sees_no_events)
edit(inner_transformer.cuh [[ && is_event(tile, row) == is_event(tile, key)) seen]] [[) seen]])

inner_mutant(inner_rows_of_another_request)
edit(inner_tiles.cuh [[max(begin - row0, 0))]] [[max(-row0, 0))]])

inner_mutant(inner_head_of_its_neighbour)
edit(inner_transformer.cuh [[return c >= first && c < end;]] [[return c > first && c <= end;]])

inner_mutant(inner_weights_not_awaited)
edit(inner_transformer.cu [[  __syncthreads();
]] [[]])

# ---- the backward pass

inner_mutant(inner_rows_not_awaited)
edit(inner_ffn_dx.cuh [[  __syncthreads();  // the rows of all warps are there
#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, shared.ffn]] [[#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, shared.ffn]])

inner_mutant(inner_units_not_awaited)
edit(inner_ffn_dx.cuh [[  __syncthreads();  // and the gradients of all units
]] [[]])

inner_mutant(inner_tiles_in_use)
edit(inner_transformer_dx.cu [[    __syncthreads();  // the tiles are done with
]] [[]])

inner_mutant(inner_attention_rows_not_awaited)
edit(inner_transformer_dx.cu [[  __syncthreads();  // the rows of all warps are there
#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, row0);]] [[#pragma unroll 1
  for (int row0 = 0; row0 < S::kRows; row0 += kInnerRows) sums.add(tiles, row0);]])

inner_mutant(inner_next_round_too_early)
edit(inner_transformer_dx.cu [[    __syncthreads();  // and these
]] [[]])

inner_mutant(inner_probabilities_not_awaited)
edit(inner_transformer_dx.cu [[  __syncwarp();  // all lanes' probabilities are there
]] [[]])

inner_mutant(inner_written_over_too_early)
edit(inner_transformer_dx.cu [[    __syncwarp();  // what is written over has been read
]] [[]])

inner_mutant(inner_next_head_too_early)
edit(inner_transformer_dx.cu [[  __syncwarp();  // before the next head reads
]] [[]])

inner_mutant(inner_stale_factor)
edit(inner_transformer_dx.cu [[put_factor(tiles.of[tiles.kNormed], own, 16 * i, n[i]);
  through_norm]] [[(void)n[i];
  through_norm]])

inner_mutant(inner_units_of_the_first_tile)
edit(inner_ffn_dx.cuh [[sums.add(tiles, shared.ffn, unit0, row0);]] [[sums.add(tiles, shared.ffn, unit0, 0);]])

inner_mutant(inner_lost_part)
edit(inner_transformer_dx.cu [[for (int i = 0; i < count; ++i) {]] [[for (int i = 1; i < count; ++i) {]])

inner_mutant(inner_lost_warp)
edit(inner_shares.cuh [[for (int w = 0; w < Share<D>::kWarps; ++w) total]] [[for (int w = 1; w < Share<D>::kWarps; ++w) total]])

inner_mutant(inner_vectors_not_awaited)
edit(inner_shares.cuh [[ = sums[i];  // D = 16: by two lanes, the same
  __syncthreads();]] [[ = sums[i];]])

end_mutants()
