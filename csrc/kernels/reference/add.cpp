#include "kernels/add.h"

#include "kernels/dense_kernels.h"

namespace longer::reference {

void add(const Call& call) {
  const AddArgs a = add_args(call);
  for (int64_t i = 0; i < a.y.size(); ++i) {
    double sum = a.terms[0].f64()[i];
    for (int t = 1; t < a.count; ++t) sum += a.terms[t].f64()[i];
    a.y.f64()[i] = sum;
  }
}

}  // namespace longer::reference
