#include "kernels/plain/rows.h"

namespace longer {

OpList rows_ops() {
#define LONGER_PLAIN(name) {#name, plain::name<double>, plain::name<float>, nullptr}
  static const Op ops[] = {
      LONGER_PLAIN(gather_rows),   LONGER_PLAIN(gather_rows_dx),   LONGER_PLAIN(merge),     LONGER_PLAIN(merge_dx),
      LONGER_PLAIN(segment_pool),  LONGER_PLAIN(segment_pool_dx),  LONGER_PLAIN(concat),    LONGER_PLAIN(concat_dx),
      LONGER_PLAIN(pair_features), LONGER_PLAIN(pair_features_dx), LONGER_PLAIN(pair_pool), LONGER_PLAIN(pair_pool_dx),
  };
#undef LONGER_PLAIN
  return {ops, static_cast<int>(sizeof(ops) / sizeof(ops[0]))};
}

}  // namespace longer
