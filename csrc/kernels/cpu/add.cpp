#include "kernels/add.h"

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"

namespace longer::cpu {

void add(const Call& call) {
  const AddArgs a = add_args(call);
  Values terms[kMaxTerms];
  for (int i = 0; i < a.count; ++i) terms[i] = values(a.terms[i]);
  const Values y = values(a.y);
  split(*call.pool, a.y.size(), kRangeTask,
        [&](int64_t begin, int64_t end) { vector_ops().add(terms, a.count, y, begin, end); });
}

}  // namespace longer::cpu
