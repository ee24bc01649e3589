#include "kernels/training_kernels.h"

namespace longer {

OpList training_ops() {
  static const Op ops[] = {
      {"bce", reference::bce, cpu::bce, cpu::bce_workspace},
      {"bce_dx", reference::bce_dx, cpu::bce_dx, cpu::bce_dx_workspace},
      {"sum_squares", reference::sum_squares, cpu::sum_squares, cpu::sum_squares_workspace},
      {"clip_scale", reference::clip_scale, cpu::clip_scale, nullptr},
      {"update_loss_scale", reference::update_loss_scale, cpu::update_loss_scale, nullptr, nullptr, true},
      {"adamw", reference::adamw, cpu::adamw, nullptr, nullptr, true},
      {"rmsprop", reference::rmsprop, cpu::rmsprop, nullptr, nullptr, true},
      {"accumulate", reference::accumulate, cpu::accumulate, nullptr, nullptr, true},
      {"ema", reference::ema, cpu::ema, nullptr, nullptr, true},
  };
  return {ops, static_cast<int>(sizeof ops / sizeof ops[0])};
}

}  // namespace longer
