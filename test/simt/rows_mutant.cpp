// Rows written in int8 (`forward`), and the probabilities of attention (`backward`), with one mistake, compiled once for each mutant.
#include "simt/mutant.h"

#include "kernels/cuda/attention_probabilities.cu"
#include "kernels/cuda/write_quantised_rows.cu"

namespace {

#define NAME_OF(token) TEXT_OF(token)
#define TEXT_OF(token) #token

int64_t nothing(const longer::Call&) { return 0; }

const bool listed = [] {
  using namespace longer::cuda;
  simt::mutants()[NAME_OF(cuda)] = {{[](const longer::Call& call, longer::Stream stream) { write_quantised_rows(call, {stream}); }, nothing},
                                    {[](const longer::Call& call, longer::Stream stream) { candidate_attention_probabilities(call, {stream}); }, nothing}};
  return true;
}();

}  // namespace
