#include "kernels/norm.h"

#include <cstring>

#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/cpu/vector_ops.h"
#include "kernels/dense_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kChunkRows = 512;  // least rows of a chunk of dgamma and dbeta
constexpr int64_t kMostChunks = 64;

// Depends on the shape alone.
int64_t chunk_rows(int64_t rows) { return std::max(kChunkRows, (rows + kMostChunks - 1) / kMostChunks); }
int64_t chunks(int64_t rows) { return (rows + chunk_rows(rows) - 1) / chunk_rows(rows); }
int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }

}  // namespace

void norm(const Call& call) {
  const NormArgs a = norm_args(call);
  const NormRows rows{values(a.x),    values(a.y),    floats(a.gamma), floats(a.beta), floats(a.mean),
                      floats(a.rstd), a.rms, static_cast<float>(a.eps), a.width};
  split(*call.pool, a.rows, std::max<int64_t>(1, kRangeTask / std::max<int64_t>(1, a.width)),
        [&](int64_t begin, int64_t end) { vector_ops().norm(rows, begin, end); });
}

int64_t norm_dx_workspace(const Call& call) {
  const NormDxArgs a = norm_dx_args(call);
  return align_up(chunks(a.rows) * 2 * padded(a.width) * 4);
}

void norm_dx(const Call& call) {
  const NormDxArgs a = norm_dx_args(call);
  const NormDxRows rows{values(a.x),     values(a.dy),  values(a.add), values(a.dx), floats(a.gamma),
                        a.rms ? nullptr : floats(a.mean), floats(a.rstd), a.width};
  const int64_t step = chunk_rows(a.rows), width = padded(a.width);
  float* partials = static_cast<float*>(call.workspace);
  split(*call.pool, a.rows, step, [&](int64_t begin, int64_t end) {
    float* dgamma = partials + begin / step * 2 * width;
    std::memset(dgamma, 0, static_cast<size_t>(2 * width) * 4);
    vector_ops().norm_dx(rows, dgamma, a.dbeta.present() ? dgamma + width : nullptr, begin, end);
  });
  float* dgamma = floats(a.dgamma);
  float* dbeta = floats(a.dbeta);
  for (int64_t c = 0; c < a.width; ++c) {
    float gamma_sum = 0, beta_sum = 0;
    for (int64_t chunk = 0; chunk < chunks(a.rows); ++chunk) {
      gamma_sum += partials[chunk * 2 * width + c];
      beta_sum += partials[chunk * 2 * width + width + c];
    }
    dgamma[c] = gamma_sum;
    if (dbeta) dbeta[c] = beta_sum;
  }
}

}  // namespace longer::cpu
