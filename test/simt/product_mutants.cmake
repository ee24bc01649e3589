# The product on Hopper (wgmma_gemm.cuh) with one mistake each (mutants.cmake), for planted_product_test.
begin_mutants(PRODUCT_MUTANTS)

# product_mutant(NAME): with a ring of three stages, so that a small product goes around it.
macro(product_mutant name)
  add_mutant(${name})
  edit(wgmma_gemm.cuh [[kColumns == 256 ? 4 : kColumns == 128 ? 6 : 8;]] [[3;]])
endmacro()

product_mutant(product_nothing)

# ---- the ring

product_mutant(product_wrong_parity)
edit(wgmma_gemm.cuh [[mbarrier_wait(&shared.full[place.stage], place.parity);]] [[mbarrier_wait(&shared.full[place.stage], place.parity ^ 1);]])

product_mutant(product_no_wait_for_empty)
edit(wgmma_gemm.cuh [[      ptx::mbarrier_wait(&shared.empty[place.stage], place.parity ^ 1);  // passes at once in the first round]] [[]])

product_mutant(product_wrong_parity_of_empty)
edit(wgmma_gemm.cuh [[mbarrier_wait(&shared.empty[place.stage], place.parity ^ 1);]] [[mbarrier_wait(&shared.empty[place.stage], place.parity);]])

product_mutant(product_stage_in_use_given_back)
edit(wgmma_gemm.cuh [[      give_back(place.before());
    }]] [[      give_back(place.stage);
    }]])

product_mutant(product_too_few_arrivals)
edit(wgmma_gemm.cuh [[mbarrier_init(&shared.empty[s], kConsumerWarps);]] [[mbarrier_init(&shared.empty[s], kConsumers);]])

product_mutant(product_short_expect)
edit(wgmma_gemm.cuh [[sizeof shared.a[0] + sizeof shared.b[0]);]] [[sizeof shared.a[0]);]])

product_mutant(product_no_barrier_after_init)
edit(wgmma_gemm.cuh [[  __syncthreads();
  if (threadIdx.x >= kConsumers * kWarpgroup) {]] [[  if (threadIdx.x >= kConsumers * kWarpgroup) {]])

# ---- the warpgroups' products

product_mutant(product_no_fence)
edit(wgmma_gemm.cuh [[    ptx::wgmma_fence();
]] [[]])

product_mutant(product_no_commit)
edit(wgmma_gemm.cuh [[    ptx::wgmma_commit();
]] [[]])

product_mutant(product_given_back_too_early)
edit(wgmma_gemm.cuh [[ptx::wgmma_wait<1>();]] [[ptx::wgmma_wait<2>();]])

product_mutant(product_last_not_waited_for)
edit(wgmma_gemm.cuh [[ptx::wgmma_wait<0>();]] [[ptx::wgmma_wait<1>();]])

product_mutant(product_sums_of_the_last_tile)
edit(wgmma_gemm.cuh [[s > 0 || k > 0);]] [[tile_before || s > 0 || k > 0);]])
edit(wgmma_gemm.cuh [[void sum_tile(float (&sums)[kColumns / 2],]] [[void sum_tile(bool tile_before, float (&sums)[kColumns / 2],]])
edit(wgmma_gemm.cuh [[sum_tile<T, kTransposeA, kTransposeB>(sums,]] [[sum_tile<T, kTransposeA, kTransposeB>(tile != blockIdx.x, sums,]])

product_mutant(product_wrong_depth_step)
edit(wgmma_gemm.cuh [[kTransposed ? 16 * 128 : 16 * 2;]] [[kTransposed ? 16 * 128 : 16;]])

product_mutant(product_wrong_swizzle)
edit(wgmma_gemm.cuh [[kAtomBytes, Swizzle::b128);]] [[kAtomBytes, Swizzle::b64);]])

product_mutant(product_wrong_atom)
edit(wgmma_gemm.cuh [[kTransposed ? kLines * 128 : 16, kAtomBytes,]] [[kTransposed ? kLines * 128 : 16, kAtomBytes / 2,]])

product_mutant(product_rows_of_one_group)
edit(wgmma_gemm.cuh [[shared.a[place.stage] + group * 64 * kSlab);]] [[shared.a[place.stage] + group * 0);]])

# ---- what follows

product_mutant(product_no_row_mask)
edit(wgmma_gemm.cuh [[row + lane_row(half) < shape.rows && ]] [[]])

product_mutant(product_no_column_mask)
edit(wgmma_gemm.cuh [[ && at.column + column < shape.columns; }]] [[; }]])

product_mutant(product_staged_over)
edit(wgmma_gemm.cuh [[      __syncwarp();  // what was staged before is read
]] [[]])

product_mutant(product_read_before_staged)
edit(wgmma_gemm.cuh [[      stage_columns(staging, sums, c / kStep);
      __syncwarp();
]] [[      stage_columns(staging, sums, c / kStep);
]])

product_mutant(product_fetched_late)
edit(wgmma_gemm.cuh [[fetch(half, c + kStep);]] [[fetch(half, c);]])

end_mutants()
