#include <algorithm>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/dense_kernels.h"
#include "kernels/linear.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kChunkRows = 2048;       // least rows of a chunk
constexpr int64_t kPartialBytes = 8 << 20; // partial sums are to stay about this size
constexpr int64_t kBlockRows = 256;        // rows packed at a time
constexpr int64_t kNarrow = 64;            // columns
constexpr int64_t kTaskCols = 256;         // columns of dw a task; a multiple of every panel

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// A task is a chunk of rows and a group of columns. Chunks depend on the shapes alone.
class WeightGradient {
 public:
  WeightGradient(const LinearDwArgs& a, const Call& call)
      : a_(a), pool_(*call.pool), kernel_(gemm_kernel(a.x.dtype == DType::bf16 && a.dy.dtype == DType::bf16)),
        stride_(round_up(a.outs, kernel_.panel)), partial_((a.ins + 1) * stride_),
        groups_((a.outs + kTaskCols - 1) / kTaskCols) {
    const int64_t most = std::clamp<int64_t>(kPartialBytes / std::max<int64_t>(1, partial_ * 4), 4, 16);
    chunk_rows_ = std::max(kChunkRows, round_up((a.rows + most - 1) / most, kBlockRows));
    chunks_ = std::max<int64_t>(1, (a.rows + chunk_rows_ - 1) / chunk_rows_);
  }

  int64_t workspace() const { return align_up(chunks_ * partial_ * 4) + pool_.size() * pack_bytes(); }

  void run(void* workspace) const {
    float* partials = static_cast<float*>(workspace);
    char* packs = static_cast<char*>(workspace) + align_up(chunks_ * partial_ * 4);
    pool_.parallel_for(chunks_ * groups_, [&](int64_t task, int worker) {
      chunk(task / groups_, task % groups_ * kTaskCols, partials, packs + worker * pack_bytes());
    });
    pool_.parallel_for(a_.ins + 1, [&](int64_t row, int) { combine(row, partials); });
  }

 private:
  int64_t block_words() const { return kBlockRows / kernel_.group; }
  int64_t x_pack_bytes() const { return align_up(round_up(a_.ins, kernel_.row_tile) * block_words() * 4); }
  int64_t pack_bytes() const { return x_pack_bytes() + align_up(kTaskCols * block_words() * 4); }

  static Values at(const Tensor& t, int64_t offset) {
    Values v = values(t);
    v.data = static_cast<char*>(v.data) + offset * dtype_size(t.dtype);
    return v;
  }

  void chunk(int64_t index, int64_t col, float* partials, char* packs) const {
    float* x_pack = reinterpret_cast<float*>(packs);
    float* dy_pack = reinterpret_cast<float*>(packs + x_pack_bytes());
    float* out = partials + index * partial_ + col;
    const int64_t cols = std::min(kTaskCols, a_.outs - col), end = std::min(a_.rows, (index + 1) * chunk_rows_);
    float* bias = out + a_.ins * stride_;
    std::memset(bias, 0, static_cast<size_t>(cols) * 4);
    int64_t row = index * chunk_rows_;
    do {  // once even where there are no rows
      const int64_t rows = std::max<int64_t>(0, std::min(kBlockRows, end - row));
      const int64_t words = (rows + kernel_.group - 1) / kernel_.group;
      const Values x = at(a_.x, row * a_.ins), dy = at(a_.dy, row * a_.outs + col);
      GemmSum sum{a_.ins, words, cols, x_pack, words * kernel_.row_tile, kernel_.row_tile,
                  dy_pack, words * kernel_.panel, kernel_.panel, out, stride_, row == index * chunk_rows_};
      if (readable(a_.x, 1)) {
        sum.a = static_cast<const float*>(x.data), sum.a_panel = kernel_.row_tile, sum.a_step = a_.ins;
      } else {
        kernel_.pack({x, a_.ins, rows, a_.ins, false}, kernel_.row_tile, x_pack);
      }
      if (readable(a_.dy, kernel_.panel)) {
        sum.b = static_cast<const float*>(dy.data), sum.b_panel = kernel_.panel, sum.b_step = a_.outs;
      } else {
        kernel_.pack({dy, a_.outs, rows, cols, false}, kernel_.panel, dy_pack);
      }
      kernel_.sum(sum);
      if (a_.db.present()) kernel_.add_rows(dy, a_.outs, rows, cols, bias);
      row += kBlockRows;
    } while (row < end);
  }

  // Narrow matrices of words are read where they stand.
  bool readable(const Tensor& t, int64_t unit) const {
    return kernel_.group == 1 && t.dtype == DType::f32 && t.dim[1] <= kNarrow && t.dim[1] % unit == 0;
  }

  // Row a.ins of the partial sums is db.
  void combine(int64_t row, const float* partials) const {
    if (row == a_.ins && !a_.db.present()) return;
    float* out = row == a_.ins ? a_.db.f32() : a_.dw.f32() + row * a_.outs;
    const float* from = partials + row * stride_;
    std::memcpy(out, from, static_cast<size_t>(a_.outs) * 4);
    for (int64_t c = 1; c < chunks_; ++c)
      for (int64_t o = 0; o < a_.outs; ++o) out[o] += from[c * partial_ + o];
  }

  const LinearDwArgs a_;
  ThreadPool& pool_;
  const GemmKernel& kernel_;
  const int64_t stride_, partial_, groups_;
  int64_t chunk_rows_ = 0, chunks_ = 0;
};

}  // namespace

void linear_dw(const Call& call) {
  const LinearDwArgs a = linear_dw_args(call);
  floats(a.dw);
  floats(a.db);
  WeightGradient(a, call).run(call.workspace);
}

int64_t linear_dw_workspace(const Call& call) { return WeightGradient(linear_dw_args(call), call).workspace(); }

}  // namespace longer::cpu
