# The attention kernels with one mistake each (mutants.cmake), for planted_attention_test.
# MUTANT_TYPE_<name>: what they multiply.
begin_mutants(ATTENTION_MUTANTS)

# mutant(NAME TYPE): heads are 32 wide and of one type, so that it is a few kernels and not dozens.
macro(mutant name type)
  add_mutant(${name})
  set(MUTANT_TYPE_${name} ${type})
  edit(flash.cuh [[if (t.head_width <= 16) run(type, std::integral_constant<int, 16>());]] [[run(MUTANT_TYPE{}, std::integral_constant<int, 32>());]])
  edit(flash.cuh [[const auto sized = [&](auto type) {]] [[const auto sized = [&](int) {]])
  edit(flash.cuh [[    else if (t.head_width <= 32) run(type, std::integral_constant<int, 32>());
    else if (t.head_width <= 64) run(type, std::integral_constant<int, 64>());
    else if (t.head_width <= 128) run(type, std::integral_constant<int, 128>());
    else throw shape_error(std::string(name) + ": the device takes heads of up to 128 columns; use more heads");
  };
  if (t.q.dtype == DType::f32 && queue.tf32) sized(Tf32{});
  else with_type(t.q, sized);]] [[  };
  sized(0);
  (void)name, (void)t, (void)queue;]])
endmacro()

mutant(nothing_bf16 Bf16)
mutant(nothing_f32 float)

# ---- the forward pass

mutant(forward_wrong_mask Bf16)
edit(flash.cuh [[return first <= i && i < end;]] [[return first <= i && i <= end;]])

mutant(forward_no_wait Bf16)
edit(flash_forward.cu [[      ptx::copy_async_wait<0>();
      __syncthreads();  // stage s is there, and the other is done with]] [[      __syncthreads();]])

mutant(forward_no_barrier Bf16)
edit(flash_forward.cu [[      __syncthreads();  // stage s is there, and the other is done with]] [[]])

mutant(forward_no_barrier_between_parts Bf16)
edit(flash_forward.cu [[    __syncthreads();  // all are done with the last part's bands and stages]] [[]])

mutant(forward_stale_tile Bf16)
edit(flash_forward.cu [[key += kKeys, s ^= 1]] [[key += kKeys]])

mutant(forward_wrong_lse Bf16)
edit(flash_forward.cu [[x.top[r] * kLn2 + logf(sum)]] [[x.top[r] + logf(sum)]])

mutant(forward_no_barrier_before_store Bf16)
edit(flash_forward.cu [[  put_sums<D>(shared.q, m0, x.o, inverse[0], inverse[1]);
  __syncthreads();]] [[  put_sums<D>(shared.q, m0, x.o, inverse[0], inverse[1]);]])

# ---- the backward pass

mutant(backward_wrong_mask Bf16)
edit(flash_backward.cu [[stage.band[i].has(k) ?]] [[stage.band[i].has(k + 1) ?]])

mutant(backward_no_wait Bf16)
edit(flash_backward.cu [[    ptx::copy_async_wait<0>();
    __syncthreads();  // stage s is there, and the other is done with]] [[    __syncthreads();]])

mutant(backward_no_barrier Bf16)
edit(flash_backward.cu [[    __syncthreads();  // stage s is there, and the other is done with
    row = next(row + kRows);]] [[    row = next(row + kRows);]])

mutant(backward_stale_tile Bf16)
edit(flash_backward.cu [[    load(row, s ^ 1);
]] [[    load(row, s);
]])

mutant(backward_wrong_lse Bf16)
edit(flash_backward.cu [[lse == -INFINITY ? INFINITY : lse * kLog2e]] [[lse == -INFINITY ? INFINITY : lse]])

# dq by several blocks that add to it as they come, which is faster where requests are few
mutant(backward_unordered_sum float)
edit(flash_backward.cu [[    load(all.first, 0);
    for (int key = all.first, s = 0; key < all.end; key += kKeys, s ^= 1) {]] [[    const int stride = kKeys * gridDim.z, begin = all.first + kKeys * blockIdx.z;
    load(begin, 0);
    for (int key = begin, s = 0; key < all.end; key += stride, s ^= 1) {]])
edit(flash_backward.cu [[load(key + kKeys, s ^ 1);]] [[load(key + stride, s ^ 1);]])
edit(flash_backward.cu [[  shared.q.store(in.matrix(out.dq), column, last_column, row_of);]] [[  for (int i = threadIdx.x; i < kTileRows * D; i += kTileThreads)
    if (row_of(i / D) >= 0 && i % D < in.head_width)
      atomicAdd(static_cast<float*>(out.dq) + row_of(i / D) * in.width + column + i % D, static_cast<float>(shared.q.element(i / D, i % D)));]])
edit(flash_backward.cu [[    launch(queue.stream, name, flash_rows_kernel<T, D>, row_tiles, block,]] [[    launch(queue.stream, name, zero_kernel, dim3(1), dim3(1), 0, static_cast<float*>(t.dq.data), t.dq.size());
    launch(queue.stream, name, flash_rows_kernel<T, D>, dim3(row_tiles.x, row_tiles.y, 4), block,]])
edit(flash_backward.cu [[struct Workspace {]] [[__global__ void zero_kernel(float* x, int64_t size) {
  for (int64_t i = 0; i < size; ++i) x[i] = 0;
}

struct Workspace {]])

end_mutants()
