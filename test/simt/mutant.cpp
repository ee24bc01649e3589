// Compiled once for each mutant, with `cuda` defined as its name, so that all of them live in one program.
#include "simt/mutant.h"

#include "kernels/cuda/tile_list.cu"
#include "kernels/cuda/flash_forward.cu"
#include "kernels/cuda/flash_backward.cu"
#include "kernels/cuda/attention.cu"

namespace {

#define NAME_OF(token) TEXT_OF(token)
#define TEXT_OF(token) #token

const bool listed = [] {
  using namespace longer::cuda;
  simt::mutants()[NAME_OF(cuda)] = {
      {[](const longer::Call& call, longer::Stream stream) { candidate_attention(call, {stream}); }, candidate_attention_workspace},
      {[](const longer::Call& call, longer::Stream stream) { candidate_attention_dx(call, {stream}); }, candidate_attention_dx_workspace}};
  return true;
}();

}  // namespace
