#include "kernels/linear.h"

#include <algorithm>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/dense_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

// a (rows x inner) times w, finished. w is inner x cols, or cols x inner if transposed.
struct Product {
  Tensor a, w;
  bool transposed;
  int64_t rows, inner, cols;
  GemmFinish finish;
};

constexpr int64_t kBlockTiles = 8;  // row tiles that share a pass over the panels

class ProductRun {
 public:
  ProductRun(const Product& p, const Call& call)
      : p_(p), pool_(*call.pool), kernel_(gemm_kernel(p.a.dtype == DType::bf16)),
        words_((p.inner + kernel_.group - 1) / kernel_.group),
        panels_((p.cols + kernel_.panel - 1) / kernel_.panel),
        block_rows_(kernel_.row_tile * kBlockTiles),
        stage_stride_((words_ + 15) / 16 * 16 + 16) {}

  // Small products with f32 operands read the weights where they stand.
  bool small() const {
    return p_.rows <= kernel_.small_rows && !p_.transposed && p_.a.dtype == DType::f32 && p_.w.dtype == DType::f32;
  }

  int64_t workspace() const {
    if (small()) return 0;
    return panel_bytes() + pool_.size() * stage_bytes();
  }

  void run(void* workspace) const {
    if (p_.rows == 0 || p_.cols == 0) return;
    if (small()) return run_small();
    float* panels = static_cast<float*>(workspace);
    pack(panels);
    const int64_t task_rows = rows_a_task();
    pool_.parallel_for((p_.rows + task_rows - 1) / task_rows, [&](int64_t task, int worker) {
      float* stage = reinterpret_cast<float*>(static_cast<char*>(workspace) + panel_bytes() + worker * stage_bytes());
      const int64_t end = std::min(p_.rows, (task + 1) * task_rows);
      for (int64_t row = task * task_rows; row < end; row += block_rows_)
        multiply(row, std::min(block_rows_, end - row), panels, stage);
    });
  }

 private:
  int64_t panel_bytes() const { return align_up(panels_ * kernel_.panel * words_ * 4); }
  int64_t stage_bytes() const { return align_up(block_rows_ * stage_stride_ * 4); }

  // Enough work for a task to be worth its hand-out.
  int64_t rows_a_task() const {
    const int64_t wanted = (int64_t{1} << 20) / std::max<int64_t>(1, p_.inner * p_.cols);
    return block_rows_ * std::clamp<int64_t>(wanted / block_rows_, 1, 16);
  }

  void run_small() const {
    const int64_t wide = 64;
    pool_.parallel_for((p_.cols + wide - 1) / wide, [&](int64_t task, int) {
      const int64_t col = task * wide;
      kernel_.small({p_.rows, words_, std::min(wide, p_.cols - col), p_.a.f32(), p_.inner, p_.w.f32() + col, p_.cols,
                     p_.finish, 0, col, p_.cols});
    });
  }

  void pack(float* panels) const {
    pool_.parallel_for(panels_, [&](int64_t panel, int) {
      const int64_t col = panel * kernel_.panel;
      const int64_t stride = p_.transposed ? p_.inner : p_.cols;
      Values from = values(p_.w);
      from.data = static_cast<char*>(from.data) + col * (p_.transposed ? stride : 1) * dtype_size(p_.w.dtype);
      kernel_.pack({from, stride, p_.inner, std::min(kernel_.panel, p_.cols - col), p_.transposed, p_.a.dtype == DType::bf16}, kernel_.panel,
                   panels + col * words_);
    });
  }

  void multiply(int64_t row, int64_t rows, const float* panels, float* stage) const {
    Values from = values(p_.a);
    from.data = static_cast<char*>(from.data) + row * p_.inner * dtype_size(p_.a.dtype);
    GemmBlock block{rows, words_, p_.cols, static_cast<const float*>(from.data), words_, panels, 0, p_.finish, row, 0, p_.cols};
    if (must_stage()) {
      kernel_.stage(from, p_.inner, rows, p_.inner, stage, stage_stride_);
      block.a = stage;
      block.a_stride = stage_stride_;
    }
    kernel_.multiply(block);
  }

  // Rows that are not words as they stand; or so far apart that a tile of them falls into the same few cache sets.
  bool must_stage() const {
    const bool are_words = kernel_.group == 2 ? p_.inner % 2 == 0 : p_.a.dtype == DType::f32;
    return !are_words || (words_ % 512 == 0 && panels_ > 4);
  }

  const Product p_;
  ThreadPool& pool_;
  const GemmKernel& kernel_;
  const int64_t words_, panels_, block_rows_, stage_stride_;
};

Product forward(const Call& call) {
  const LinearArgs a = linear_args(call);
  return {a.x, a.w, false, a.rows, a.inner, a.cols,
          {floats(a.bias), values(a.pre), values(a.residual), values(a.y), a.activation, false}};
}

Product backward(const Call& call) {
  const LinearDxArgs a = linear_dx_args(call);
  return {a.dy, a.w, true, a.rows, a.inner, a.cols,
          {nullptr, values(a.pre), values(a.add), values(a.dx), a.pre.present() ? a.activation : Activation::none, true}};
}

}  // namespace

void linear(const Call& call) { ProductRun(forward(call), call).run(call.workspace); }
void linear_dx(const Call& call) { ProductRun(backward(call), call).run(call.workspace); }
int64_t linear_workspace(const Call& call) { return ProductRun(forward(call), call).workspace(); }
int64_t linear_dx_workspace(const Call& call) { return ProductRun(backward(call), call).workspace(); }

}  // namespace longer::cpu
