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

constexpr int64_t kBlockTiles = 8;              // row tiles that share a pass over the panels
constexpr int64_t kTaskWork = int64_t{1} << 18; // multiply-adds that are worth handing to another thread
constexpr int64_t kTaskPack = int64_t{1} << 14; // the same for elements packed
constexpr int64_t kTaskRead = int64_t{1} << 14; // the same for weights that few rows share: what they wait for is memory
constexpr int64_t kFewRows = 512;               // up to here threads share the columns: each reads its own weights only

constexpr int64_t kNearElements = int64_t{1} << 18;  // of the operands by rows: so many stay in the second-level cache

int64_t parts_of(int64_t n, int64_t part) { return (n + part - 1) / part; }

class ProductRun {
 public:
  ProductRun(const Product& p, const Call& call)
      : p_(p), pool_(*call.pool), kernel_(gemm_kernel(p.a.dtype == DType::bf16)), words_(parts_of(p.inner, kernel_.group)),
        panels_(parts_of(p.cols, kernel_.panel)), block_rows_(kernel_.row_tile * kBlockTiles),
        stage_stride_(parts_of(words_, 16) * 16 + 16), prepared_(static_cast<const float*>(call.prepared)) {}

  int64_t workspace() const {
    return (small() ? 0 : panel_bytes()) + (must_stage() ? pool_.size() * stage_bytes() : 0);
  }

  int64_t panel_bytes() const { return align_up(panels_ * kernel_.panel * words_ * 4); }

  void pack(float* panels) const {
    const int64_t some = parts_of(kTaskPack, std::max<int64_t>(1, p_.inner * kernel_.panel));
    pool_.parallel_for(parts_of(panels_, some), [&](int64_t task, int) {
      const int64_t col = task * some * kernel_.panel;
      kernel_.pack(source(col, std::min(some * kernel_.panel, p_.cols - col)), panels + col * words_);
    });
  }

  void run(void* workspace) const {
    if (p_.rows == 0 || p_.cols == 0) return;
    if (prepared_) return run_panels(prepared_, static_cast<char*>(workspace));
    if (small()) return run_small(static_cast<float*>(workspace));
    float* panels = static_cast<float*>(workspace);
    if (few()) {  // who multiplies a panel packs it
      run_columns([&](int64_t col, int64_t cols) { kernel_.pack(source(col, cols), panels + col * words_); }, panels, stages(workspace));
    } else {
      pack(panels);
      run_panels(panels, stages(workspace));
    }
  }

 private:
  // A few rows read the weights where they stand.
  bool small() const { return p_.rows <= kernel_.small_rows && !p_.transposed; }

  bool few() const { return p_.rows <= kFewRows && pool_.size() > 1; }

  int64_t stage_bytes() const { return scratch_size(block_rows_ * stage_stride_ * 4, pool_.size()); }

  // Enough work for a task to be worth its hand-out, few enough rows that the threads end together.
  int64_t rows_a_task() const {
    const int64_t work = parts_of(kTaskWork, std::max<int64_t>(1, p_.inner * p_.cols)), fair = parts_of(p_.rows, 8 * pool_.size());
    const int64_t rows = parts_of(std::max(work, std::min(fair, 16 * block_rows_)), kernel_.row_tile) * kernel_.row_tile;
    return rows > block_rows_ ? parts_of(rows, block_rows_) * block_rows_ : rows;
  }

  GemmSource source(int64_t col, int64_t cols) const {
    const int64_t stride = p_.transposed ? p_.inner : p_.cols;
    Values from = values(p_.w);
    from.data = static_cast<char*>(from.data) + col * (p_.transposed ? stride : 1) * dtype_size(p_.w.dtype);
    return {from, stride, p_.inner, cols, p_.transposed, p_.a.dtype == DType::bf16};
  }

  GemmBlock block(int64_t row, int64_t rows, float* stage) const {
    Values from = values(p_.a);
    from.data = static_cast<char*>(from.data) + row * p_.inner * dtype_size(p_.a.dtype);
    GemmBlock b{rows, words_, p_.cols, static_cast<const float*>(from.data), words_, nullptr, p_.finish, row, 0, p_.cols,
                p_.rows * (p_.inner + p_.cols) > kNearElements};
    if (must_stage()) {
      kernel_.stage(from, p_.inner, rows, p_.inner, stage, stage_stride_);
      b.a = stage;
      b.a_stride = stage_stride_;
    }
    return b;
  }

  void run_small(float* stage) const {
    const GemmBlock whole = block(0, p_.rows, stage);
    const int64_t work = std::min(parts_of(kTaskRead, std::max<int64_t>(1, p_.inner)), parts_of(kTaskWork, std::max<int64_t>(1, p_.inner * p_.rows)));
    const int64_t wide = parts_of(std::max(work, parts_of(p_.cols, pool_.size())), kernel_.small_cols) * kernel_.small_cols;
    pool_.parallel_for(parts_of(p_.cols, wide), [&](int64_t task, int) {
      GemmBlock b = whole;
      b.col = task * wide;
      b.cols = std::min(wide, p_.cols - b.col);
      kernel_.small(b, source(b.col, b.cols));
    });
  }

  char* stages(void* workspace) const { return static_cast<char*>(workspace) + panel_bytes(); }
  float* stage_of(char* stages, int worker) const {
    return must_stage() ? reinterpret_cast<float*>(stages + worker * stage_bytes()) : nullptr;
  }

  void run_panels(const float* panels, char* stages) const {
    if (few()) return run_columns([](int64_t, int64_t) {}, panels, stages);
    const int64_t task_rows = rows_a_task();
    pool_.parallel_for(parts_of(p_.rows, task_rows), [&](int64_t task, int worker) {
      const int64_t row = task * task_rows;
      multiply(row, std::min(p_.rows, row + task_rows), 0, p_.cols, panels, stage_of(stages, worker));
    });
  }

  // Tasks of whole panels; before(col, cols) is called for each.
  template <class Before>
  void run_columns(Before before, const float* panels, char* stages) const {
    const int64_t panel_read = std::max<int64_t>(1, p_.inner * kernel_.panel), panel_work = panel_read * std::min(p_.rows, kernel_.row_tile);
    const int64_t worth = std::min(parts_of(kTaskWork, panel_work), parts_of(kTaskRead, panel_read));
    const int64_t wide = std::max(parts_of(panels_, 2 * pool_.size()), worth) * kernel_.panel;
    pool_.parallel_for(parts_of(p_.cols, wide), [&](int64_t task, int worker) {
      const int64_t col = task * wide, cols = std::min(wide, p_.cols - col);
      before(col, cols);
      multiply(0, p_.rows, col, cols, panels, stage_of(stages, worker));
    });
  }

  void multiply(int64_t row, int64_t end, int64_t col, int64_t cols, const float* panels, float* stage) const {
    for (; row < end; row += block_rows_) {
      GemmBlock b = block(row, std::min(block_rows_, end - row), stage);
      b.b = panels + col * words_;
      b.col = col;
      b.cols = cols;
      kernel_.multiply(b);
    }
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
  const float* const prepared_;
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

int64_t prepared_bytes(const Call& call) { return ProductRun(forward(call), call).panel_bytes(); }
void fill_prepared(const Call& call, void* to) { ProductRun(forward(call), call).pack(static_cast<float*>(to)); }

}  // namespace

const Prepare linear_prepare = {1, prepared_bytes, fill_prepared};

void linear(const Call& call) { ProductRun(forward(call), call).run(call.workspace); }
void linear_dx(const Call& call) { ProductRun(backward(call), call).run(call.workspace); }
int64_t linear_workspace(const Call& call) { return ProductRun(forward(call), call).workspace(); }
int64_t linear_dx_workspace(const Call& call) { return ProductRun(backward(call), call).workspace(); }

}  // namespace longer::cpu
