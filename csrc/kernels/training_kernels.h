// The kernels behind training_ops().
#pragma once
#include "kernels/op.h"

namespace longer {

namespace reference {
void bce(const Call& call);
void bce_dx(const Call& call);
void sum_squares(const Call& call);
void clip_scale(const Call& call);
void update_loss_scale(const Call& call);
void adamw(const Call& call);
void rmsprop(const Call& call);
void accumulate(const Call& call);
void ema(const Call& call);
}  // namespace reference

namespace cpu {
void bce(const Call& call);
void bce_dx(const Call& call);
void sum_squares(const Call& call);
void clip_scale(const Call& call);
void update_loss_scale(const Call& call);
void adamw(const Call& call);
void rmsprop(const Call& call);
void accumulate(const Call& call);
void ema(const Call& call);
int64_t bce_workspace(const Call& call);
int64_t bce_dx_workspace(const Call& call);
int64_t sum_squares_workspace(const Call& call);
}  // namespace cpu

}  // namespace longer
