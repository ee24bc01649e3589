// The kernels behind embedding_ops().
#pragma once
#include "kernels/op.h"

namespace longer {

namespace reference {
void embed(const Call& call);
void sparse_grad(const Call& call);
void time_bucket(const Call& call);
void rowwise_adagrad(const Call& call);
void sparse_adagrad(const Call& call);
void sparse_adam(const Call& call);
}  // namespace reference

namespace cpu {
void embed(const Call& call);
void sparse_grad(const Call& call);
void time_bucket(const Call& call);
void rowwise_adagrad(const Call& call);
void sparse_adagrad(const Call& call);
void sparse_adam(const Call& call);
int64_t embed_workspace(const Call& call);
int64_t sparse_grad_workspace(const Call& call);
}  // namespace cpu

}  // namespace longer
