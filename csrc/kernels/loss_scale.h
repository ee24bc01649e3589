// update_loss_scale: after a step whose gradients were those of the loss times loss_scale. Where scale, of clip_scale, is not
// finite, the step was left out: loss_scale is halved, to no less than 1. After `interval` good steps in a row it is doubled,
// as long as f32 has a number for that. good counts them. In place.
#pragma once
#include <cstdint>

#include "kernels/dense_check.h"
#include "kernels/host_device.h"

namespace longer {

struct LossScaleArgs {
  Tensor scale, loss_scale, good;
  int32_t interval;
};

inline LossScaleArgs loss_scale_args(const Call& call) {
  const DenseCheck check("update_loss_scale", call);
  check.counts(1, 1, 2, 2, 1);
  const LossScaleArgs a{call.input(0), call.output(0), call.output(1), static_cast<int32_t>(call.integer(0))};
  check.wide(a.scale, 1, "scale must be f32 [1]");
  check.wide(a.loss_scale, 1, "loss_scale must be f32 [1]");
  check.indices(a.good, 1, "good must be i32 [1]");
  check.require(call.number(0) >= 1 && call.number(0) <= INT32_MAX, "the interval must be a number of steps");
  return a;
}

template <class Number>
LONGER_BOTH inline void next_loss_scale(bool stepped, int32_t interval, Number& loss_scale, int32_t& good) {
  constexpr Number most = static_cast<Number>(0x1p126f);
  if (!stepped) {
    loss_scale = loss_scale > 2 ? loss_scale / 2 : 1;
    good = 0;
  } else if (++good >= interval) {
    if (loss_scale <= most) loss_scale *= 2;
    good = 0;
  }
}

}  // namespace longer
