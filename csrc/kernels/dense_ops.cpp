#include "kernels/plain/dense.h"

namespace longer {

OpList dense_ops() {
#define LONGER_PLAIN(name) {#name, plain::name<double>, plain::name<float>, nullptr}
  static const Op ops[] = {
      LONGER_PLAIN(linear),     LONGER_PLAIN(linear_dx), LONGER_PLAIN(linear_dw), LONGER_PLAIN(activation), LONGER_PLAIN(activation_dx),
      LONGER_PLAIN(norm),       LONGER_PLAIN(norm_dx),   LONGER_PLAIN(add),       LONGER_PLAIN(swiglu),     LONGER_PLAIN(swiglu_dx),
      LONGER_PLAIN(gate),       LONGER_PLAIN(gate_dx),   LONGER_PLAIN(dropout),
  };
#undef LONGER_PLAIN
  return {ops, static_cast<int>(sizeof(ops) / sizeof(ops[0]))};
}

}  // namespace longer
