// Looks for NaN and Inf in what a node has just written.
#pragma once
#include "kernels/op.h"

namespace longer {

// True when every float that the operation defines is finite. What an operation leaves undefined, or gives as -inf
// on purpose, does not count.
bool outputs_are_finite(const Op& op, const Call& call);

}  // namespace longer
