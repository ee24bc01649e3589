// The kernels behind rows_ops().
#pragma once
#include "kernels/op.h"

namespace longer {

namespace reference {
void gather_rows(const Call& call);
void gather_rows_dx(const Call& call);
void write_rows(const Call& call);
void write_quantised_rows(const Call& call);
void merge(const Call& call);
void merge_dx(const Call& call);
void segment_pool(const Call& call);
void segment_pool_dx(const Call& call);
void concat(const Call& call);
void concat_dx(const Call& call);
void pair_features(const Call& call);
void pair_features_dx(const Call& call);
void pair_pool(const Call& call);
void pair_pool_dx(const Call& call);
}  // namespace reference

namespace cpu {
void gather_rows(const Call& call);
void gather_rows_dx(const Call& call);
void write_rows(const Call& call);
void write_quantised_rows(const Call& call);
void merge(const Call& call);
void merge_dx(const Call& call);
void segment_pool(const Call& call);
void segment_pool_dx(const Call& call);
void concat(const Call& call);
void concat_dx(const Call& call);
void pair_features(const Call& call);
void pair_features_dx(const Call& call);
void pair_pool(const Call& call);
void pair_pool_dx(const Call& call);
int64_t gather_rows_dx_workspace(const Call& call);
int64_t pair_features_dx_workspace(const Call& call);
int64_t pair_pool_dx_workspace(const Call& call);
}  // namespace cpu

}  // namespace longer
