#include "kernels/cast.h"

#include "kernels/dense_kernels.h"

namespace longer::reference {

void cast(const Call& call) {
  const CastArgs a = cast_args(call);
  for (int64_t i = 0; i < a.x.size(); ++i) a.y.f64()[i] = a.x.f64()[i];
}

}  // namespace longer::reference
