#include "kernels/plain/training.h"

namespace longer {

OpList training_ops() {
#define LONGER_PLAIN(name) {#name, plain::name<double>, plain::name<float>, nullptr}
  static const Op ops[] = {
      LONGER_PLAIN(bce),   LONGER_PLAIN(bce_dx),  LONGER_PLAIN(sum_squares), LONGER_PLAIN(clip_scale),
      LONGER_PLAIN(adamw), LONGER_PLAIN(rmsprop), LONGER_PLAIN(accumulate),  LONGER_PLAIN(ema),
  };
#undef LONGER_PLAIN
  return {ops, static_cast<int>(sizeof(ops) / sizeof(ops[0]))};
}

}  // namespace longer
