#include "kernels/embedding_kernels.h"

namespace longer {

OpList embedding_ops() {
  static const Op ops[] = {
      {"embed", reference::embed, cpu::embed, cpu::embed_workspace},
      {"sparse_grad", reference::sparse_grad, cpu::sparse_grad, cpu::sparse_grad_workspace},
      {"time_bucket", reference::time_bucket, cpu::time_bucket, nullptr},
      {"rowwise_adagrad", reference::rowwise_adagrad, cpu::rowwise_adagrad, nullptr, nullptr, true},
      {"sparse_adagrad", reference::sparse_adagrad, cpu::sparse_adagrad, nullptr, nullptr, true},
      {"sparse_adam", reference::sparse_adam, cpu::sparse_adam, nullptr, nullptr, true},
  };
  return {ops, static_cast<int>(sizeof ops / sizeof ops[0])};
}

}  // namespace longer
