#include "kernels/dropout.h"

#include "kernels/dense_kernels.h"

namespace longer::reference {

void dropout(const Call& call) {
  const DropoutArgs a = dropout_args(call);
  const uint32_t key0 = static_cast<uint32_t>(a.seed.i32()[0]), key1 = static_cast<uint32_t>(a.seed.i32()[1]);
  const uint32_t stream_low = static_cast<uint32_t>(a.stream), stream_high = static_cast<uint32_t>(a.stream >> 32);
  for (int64_t i = 0; i < a.x.size(); ++i) {
    const uint64_t at = a.first + static_cast<uint64_t>(i), group = at / 4;
    const PhiloxWords counter{{static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), stream_low, stream_high}};
    const bool keep = philox4x32_10(counter, key0, key1).word[at % 4] >= a.threshold();
    a.y.f64()[i] = keep ? a.x.f64()[i] / (1 - a.p) : 0;
  }
}

}  // namespace longer::reference
