#include <algorithm>
#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/dense_kernels.h"
#include "kernels/linear.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kBlockRows = 128;    // rows worked on at a time: their panels stay in the second-level cache
constexpr int64_t kChunkRows = 1024;   // rows of a chunk, about
constexpr int64_t kTasks = 32;         // wanted
constexpr int64_t kPart = 256;         // most columns of x and of dy that a task takes; a multiple of every panel
constexpr int64_t kLeastPart = 64;
constexpr int64_t kSumStride = kPart + 16;  // rows of sums start in different cache sets
constexpr int64_t kNarrow = 64;        // columns that are read where they stand
constexpr int64_t kCombine = 1 << 15;  // numbers to add that are worth handing to another thread

int64_t parts_of(int64_t n, int64_t part) { return (n + part - 1) / part; }
int64_t round_up(int64_t n, int64_t unit) { return parts_of(n, unit) * unit; }

int64_t power_of_two(int64_t most) {
  int64_t n = 1;
  while (2 * n <= most) n *= 2;
  return n;
}

// A task is a chunk of rows and a part of dw. Chunks depend on the shapes alone; parts may depend on the threads, since
// every element of dw is a sum of its own.
class WeightGradient {
 public:
  WeightGradient(const LinearDwArgs& a, const Call& call)
      : a_(a), pool_(*call.pool), kernel_(gemm_kernel(a.x.dtype == DType::bf16 && a.dy.dtype == DType::bf16)),
        partial_((a.ins + 1) * a.outs) {
    const auto parts = [&a](int64_t part) { return std::max<int64_t>(1, parts_of(a.ins, kPart)) * parts_of(a.outs, part); };
    const int64_t most = std::max<int64_t>(1, kTasks / std::max<int64_t>(1, parts(kPart)));
    const int64_t chunks = power_of_two(std::min(most, parts_of(a.rows, kChunkRows)));  // many threads end together
    chunk_rows_ = std::max<int64_t>(1, round_up(parts_of(a.rows, chunks), 2));          // bf16 rows go in pairs
    chunks_ = std::max<int64_t>(1, parts_of(a.rows, chunk_rows_));
    while (out_part_ > kLeastPart && chunks_ * parts(out_part_) < pool_.size()) out_part_ /= 2;
    in_parts_ = std::max<int64_t>(1, parts_of(a.ins, kPart));
    out_parts_ = parts_of(a.outs, out_part_);
  }

  int64_t workspace() const { return partials_bytes() + pool_.size() * scratch_bytes(); }

  void run(void* workspace) const {
    float* partials = static_cast<float*>(workspace);
    char* scratch = static_cast<char*>(workspace) + partials_bytes();
    pool_.parallel_for(chunks_ * in_parts_ * out_parts_, [&](int64_t task, int worker) {
      const int64_t part = task % (in_parts_ * out_parts_);
      sum(task / (in_parts_ * out_parts_), part / out_parts_ * kPart, part % out_parts_ * out_part_, partials,
          scratch + worker * scratch_bytes());
    });
    if (chunks_ == 1) return;
    const int64_t some = parts_of(kCombine, std::max<int64_t>(1, a_.outs * chunks_));
    pool_.parallel_for(parts_of(a_.ins + 1, some), [&](int64_t task, int) {
      for (int64_t row = task * some; row < std::min(a_.ins + 1, (task + 1) * some); ++row) combine(row, partials);
    });
  }

 private:
  int64_t partials_bytes() const { return chunks_ == 1 ? 0 : align_up(chunks_ * partial_ * 4); }
  // Panels start in different cache sets.
  int64_t panel_words() const { return kBlockRows / kernel_.group * kernel_.lanes + 16; }
  int64_t panel_bytes() const { return align_up(kPart / kernel_.lanes * panel_words() * 4); }
  int64_t sums_bytes() const { return align_up((kPart + 1) * kSumStride * 4); }
  // The sums stand between the panels: what the hardware fetches ahead of them would else be another worker's.
  int64_t scratch_bytes() const { return scratch_size(2 * panel_bytes() + sums_bytes(), pool_.size()); }

  struct Operand {
    const float* words;
    int64_t panel, step;
  };

  // Rows of the columns [col, col + cols) as words. They are added to sums, unless that is null.
  Operand words(decltype(GemmKernel::pack_sum) pack, const Tensor& t, int64_t row, int64_t rows, int64_t col, int64_t cols, float* panels,
                float* sums) const {
    const int64_t width = t.dim[1];
    Values from = values(t);
    from.data = static_cast<char*>(from.data) + (row * width + col) * dtype_size(t.dtype);
    if (!sums && kernel_.group == 1 && t.dtype == DType::f32 && width <= kNarrow && width % kernel_.lanes == 0)
      return {static_cast<const float*>(from.data), kernel_.lanes, width};
    pack(from, width, rows, cols, panels, panel_words(), sums);
    return {panels, panel_words(), kernel_.lanes};
  }

  void sum(int64_t chunk, int64_t in, int64_t out, float* partials, char* scratch) const {
    const int64_t ins = std::min(kPart, a_.ins - in), outs = std::min(out_part_, a_.outs - out);
    const int64_t begin = chunk * chunk_rows_, end = std::min(a_.rows, begin + chunk_rows_);
    float* x_panels = reinterpret_cast<float*>(scratch);
    float* sums = reinterpret_cast<float*>(scratch + panel_bytes());
    float* dy_panels = reinterpret_cast<float*>(scratch + panel_bytes() + sums_bytes());
    float* bias = in == 0 && a_.db.present() ? sums + kPart * kSumStride : nullptr;
    if (bias) std::memset(bias, 0, static_cast<size_t>(kSumStride) * 4);
    int64_t row = begin;
    do {  // once even where there are no rows
      const int64_t rows = std::clamp<int64_t>(end - row, 0, kBlockRows);
      const Operand x = words(kernel_.pack_left, a_.x, row, rows, in, ins, x_panels, nullptr);
      const Operand dy = words(kernel_.pack_sum, a_.dy, row, rows, out, outs, dy_panels, bias);
      kernel_.sum({ins, parts_of(rows, kernel_.group), outs, x.words, x.panel, x.step, dy.words, dy.panel, dy.step, sums, kSumStride, row == begin});
      row += kBlockRows;
    } while (row < end);
    float* to = (chunks_ == 1 ? a_.dw.f32() : partials + chunk * partial_) + out;
    for (int64_t i = 0; i < ins; ++i) std::memcpy(to + (in + i) * a_.outs, sums + i * kSumStride, static_cast<size_t>(outs) * 4);
    if (bias) std::memcpy(chunks_ == 1 ? a_.db.f32() + out : to + a_.ins * a_.outs, bias, static_cast<size_t>(outs) * 4);
  }

  // Row a.ins of the partial sums is db.
  void combine(int64_t row, const float* partials) const {
    if (row == a_.ins && !a_.db.present()) return;
    float* out = row == a_.ins ? a_.db.f32() : a_.dw.f32() + row * a_.outs;
    const float* from = partials + row * a_.outs;
    std::memcpy(out, from, static_cast<size_t>(a_.outs) * 4);
    for (int64_t c = 1; c < chunks_; ++c)
      for (int64_t o = 0; o < a_.outs; ++o) out[o] += from[c * partial_ + o];
  }

  const LinearDwArgs a_;
  ThreadPool& pool_;
  const GemmKernel& kernel_;
  const int64_t partial_;
  int64_t chunk_rows_ = 0, chunks_ = 0, out_part_ = kPart, in_parts_ = 0, out_parts_ = 0;
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
