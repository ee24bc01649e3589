// Attention over pages in int8 with one mistake, compiled once for each mutant.
#include "simt/mutant.h"

#include "kernels/cuda/tile_list.cu"
#include "kernels/cuda/flash_forward.cu"
#include "kernels/cuda/paged_attention.cu"

namespace {

#define NAME_OF(token) TEXT_OF(token)
#define TEXT_OF(token) #token

const bool listed = [] {
  using namespace longer::cuda;
  simt::mutants()[NAME_OF(cuda)].forward = {[](const longer::Call& call, longer::Stream stream) { paged_candidate_attention(call, {stream}); }, paged_candidate_attention_workspace};
  return true;
}();

}  // namespace
