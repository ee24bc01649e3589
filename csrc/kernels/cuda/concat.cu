// concat and concat_dx (kernels/concat.h).
#include "kernels/concat.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Concat {
  Values parts[kMostParts], whole;
  int first[kMostParts], width[kMostParts];  // columns of the whole
  int count, columns;
  bool vector[kMostParts], backward;
  __device__ void operator()(int64_t row, const RowTeam& team) const {
    for (int p = 0; p < count; ++p) {
      const int64_t inside = row * columns + first[p], alone = row * width[p];
      if (backward) copy_row(parts[p], alone, whole, inside, width[p], true, vector[p], team);
      else copy_row(whole, inside, parts[p], alone, width[p], true, vector[p], team);
    }
  }
};

void run(const Call& call, const Queue& queue, const char* name, bool backward) {
  const ConcatArgs a = concat_args(call, backward);
  Concat op{};
  op.whole = values(name, a.whole);
  op.count = a.count;
  op.columns = narrow(name, a.width);
  op.backward = backward;
  int64_t first = 0, widest = 0;
  for (int p = 0; p < a.count; ++p) {
    const int64_t width = a.parts[p].cols();
    op.parts[p] = values(name, a.parts[p]);
    op.first[p] = static_cast<int>(first);
    op.width[p] = static_cast<int>(width);
    op.vector[p] = packs_aligned(op.parts[p], width) && packs_aligned(op.whole, a.width) && first % kPack == 0;
    first += width;
    widest = std::max(widest, width);
  }
  each_row(queue, name, a.rows, widest, op);
}

}  // namespace

void concat(const Call& call, const Queue& queue) { run(call, queue, "concat", false); }
void concat_dx(const Call& call, const Queue& queue) { run(call, queue, "concat_dx", true); }

}  // namespace longer::cuda
