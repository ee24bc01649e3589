#include "kernels/plain/embedding.h"

namespace longer {

OpList embedding_ops() {
#define LONGER_PLAIN(name) {#name, plain::name<double>, plain::name<float>, nullptr}
  static const Op ops[] = {
      LONGER_PLAIN(embed),           LONGER_PLAIN(sparse_grad),    LONGER_PLAIN(time_bucket),
      LONGER_PLAIN(rowwise_adagrad), LONGER_PLAIN(sparse_adagrad), LONGER_PLAIN(sparse_adam),
  };
#undef LONGER_PLAIN
  return {ops, static_cast<int>(sizeof(ops) / sizeof(ops[0]))};
}

}  // namespace longer
