// The kernels of inner_transformer, compiled once for each mutant with `cuda` defined as its name.
#include "simt/mutant.h"

#include "kernels/cuda/inner_transformer.cu"
#include "kernels/cuda/inner_transformer_dx.cu"

namespace {

#define NAME_OF(token) TEXT_OF(token)
#define TEXT_OF(token) #token

const bool listed = [] {
  using namespace longer::cuda;
  simt::mutants()[NAME_OF(cuda)] = {{[](const longer::Call& call, longer::Stream stream) { inner_transformer(call, {stream}); }, [](const longer::Call&) { return int64_t{0}; }},
                                    {[](const longer::Call& call, longer::Stream stream) { inner_transformer_dx(call, {stream}); }, inner_transformer_dx_workspace}};
  return true;
}();

}  // namespace
