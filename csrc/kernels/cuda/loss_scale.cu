// update_loss_scale (kernels/loss_scale.h).
#include "kernels/loss_scale.h"

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace longer::cuda {

namespace {

// A run with a fault did nothing that counts.
__global__ void update_scale(const float* scale, int32_t interval, const int32_t* fault, float* loss_scale, int32_t* good) {
  if (fault && *fault) return;
  next_loss_scale(fabsf(*scale) < INFINITY, interval, *loss_scale, *good);
}

}  // namespace

void update_loss_scale(const Call& call, const Queue& queue) {
  const LossScaleArgs a = loss_scale_args(call);
  const char* name = "update_loss_scale";
  launch(queue.stream, name, update_scale, dim3(1), dim3(1), 0, static_cast<const float*>(vector_of<float>(name, a.scale)), a.interval,
         static_cast<const int32_t*>(queue.fault), vector_of<float>(name, a.loss_scale), vector_of<int32_t>(name, a.good));
}

}  // namespace longer::cuda
