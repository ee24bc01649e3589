// bce, sum_squares, clip_scale (kernels/loss.h). Sums are in double over chunks of fixed size, added up in ascending order.
#include "kernels/loss.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int64_t kCandidates = 2048;   // of a chunk of bce
constexpr int64_t kElements = 1 << 14;  // of a chunk of sum_squares

struct BceShared {
  double weight[kThreads], loss[kThreads];
};
struct SquaresShared {
  double sum[kThreads];
};

// The threads' numbers in the order of a tree, whatever the schedule. All threads call it; the first gets the sum.
__device__ double block_sum(double (&sums)[kThreads], double mine) {
  sums[threadIdx.x] = mine;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

struct Bce {
  const float *logits, *labels, *weights, *totals;
  int64_t rows;
  int tasks;
  double* chunks;  // [chunks + 1][tasks][2]: weight, loss; the last one is the sum of the others
  int64_t count;
  bool with_loss;

  __device__ float weight(int64_t i) const { return weights ? weights[i] : 1.f; }
  __device__ bool labelled(int64_t i) const { return labels[i] == labels[i]; }
};

__global__ void bce_chunks(Bce b) {
  BceShared& shared = shared_memory<BceShared>();
  const int64_t chunk = blockIdx.x, first = chunk * kCandidates, last = min(first + kCandidates, b.rows);
  for (int t = 0; t < b.tasks; ++t) {
    double weight = 0, loss = 0;
    for (int64_t r = first + threadIdx.x; r < last; r += kThreads) {
      const int64_t i = r * b.tasks + t;
      if (!b.labelled(i)) continue;
      const float x = b.logits[i];
      weight += b.weight(i);
      if (b.with_loss) loss += b.weight(i) * (fmaxf(x, 0.f) - x * b.labels[i] + log1pf(expf(-fabsf(x))));
    }
    weight = block_sum(shared.weight, weight);
    loss = block_sum(shared.loss, loss);
    if (threadIdx.x == 0) b.chunks[(chunk * b.tasks + t) * 2] = weight, b.chunks[(chunk * b.tasks + t) * 2 + 1] = loss;
    __syncthreads();
  }
}

__global__ void bce_totals(Bce b) {
  for (int t = threadIdx.x; t < b.tasks; t += kThreads) {
    double weight = 0, loss = 0;
    for (int64_t chunk = 0; chunk < b.count; ++chunk) {
      weight += b.chunks[(chunk * b.tasks + t) * 2];
      loss += b.chunks[(chunk * b.tasks + t) * 2 + 1];
    }
    double* total = b.chunks + (b.count * b.tasks + t) * 2;
    total[0] = b.totals ? b.totals[t] : weight;
    total[1] = loss;
  }
}

// Task weights are attributes, which the host has.
constexpr int kTasksALaunch = 64;
struct TaskWeights {
  float of[kTasksALaunch];
};

__global__ void bce_results(Bce b, TaskWeights weights, int first, int count, float* loss, float* per_task) {
  double sum = first ? *loss : 0;
  for (int t = 0; t < count; ++t) {
    const double* total = b.chunks + (b.count * b.tasks + first + t) * 2;
    const double mean = total[0] > 0 ? total[1] / total[0] : 0;
    per_task[first + t] = static_cast<float>(mean);
    sum += weights.of[t] * mean;
  }
  *loss = static_cast<float>(sum);
}

struct BceGradient {
  Bce b;
  TaskWeights task_weights;
  int first, count;
  const float* dloss;  // null: 1
  float* dlogits;
  __device__ void operator()(int64_t row, const RowTeam&) const {
    for (int t = first; t < first + count; ++t) {
      const int64_t i = row * b.tasks + t;
      const double total = b.chunks[(b.count * b.tasks + t) * 2];
      float g = 0;
      if (b.labelled(i) && total > 0)
        g = static_cast<float>(task_weights.of[t - first] * b.weight(i) / total) * (1.f / (1.f + expf(-b.logits[i])) - b.labels[i]);
      dlogits[i] = dloss ? g * *dloss : g;
    }
  }
};

Bce sums(const BceArgs& a, const Call& call, const Queue& queue, const char* name, bool with_loss) {
  const Bce b{vector_of<float>(name, a.logits), vector_of<float>(name, a.labels), vector_of<float>(name, a.weights), vector_of<float>(name, a.totals),
              a.rows, narrow(name, a.tasks), static_cast<double*>(call.workspace), divide_up(a.rows, kCandidates), with_loss};
  launch(queue.stream, name, bce_chunks, dim3(grid_size(name, b.count)), dim3(kThreads), sizeof(BceShared), b);
  launch(queue.stream, name, bce_totals, dim3(1), dim3(kThreads), 0, b);
  return b;
}

// each(weights, first, count) for the tasks, a launch's worth at a time
template <class Each>
void each_tasks(const Call& call, int64_t tasks, Each&& each) {
  for (int64_t first = 0; first < tasks; first += kTasksALaunch) {
    TaskWeights weights{};
    const int64_t count = std::min<int64_t>(kTasksALaunch, tasks - first);
    for (int64_t t = 0; t < count; ++t) weights.of[t] = static_cast<float>(call.number(static_cast<int>(first + t)));
    each(weights, static_cast<int>(first), static_cast<int>(count));
  }
}

int64_t bce_bytes(const BceArgs& a) { return (divide_up(a.rows, kCandidates) + 1) * a.tasks * 2 * static_cast<int64_t>(sizeof(double)); }

__global__ void square_chunks(Values x, int64_t elements, const int32_t* count, int64_t columns, bool vector, double* chunks) {
  SquaresShared& shared = shared_memory<SquaresShared>();
  if (count) elements = min(elements, *count * columns);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kElements, last = min(first + kElements, elements);
  double sum = 0;
  for (int64_t at = first + threadIdx.x * kPack; at < last; at += kThreads * kPack) {
    float v[kPack];
    load_pack(v, x, at, static_cast<int>(min(static_cast<int64_t>(kPack), last - at)), vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += static_cast<double>(v[i]) * v[i];
  }
  sum = block_sum(shared.sum, sum);
  if (threadIdx.x == 0) chunks[blockIdx.x] = sum;
}

__global__ void add_chunks(const double* chunks, int64_t count, double* sum) {
  SquaresShared& shared = shared_memory<SquaresShared>();
  const int64_t each = (count + kThreads - 1) / kThreads, first = threadIdx.x * each, last = min(first + each, count);
  double mine = 0;
  for (int64_t i = first; i < last; ++i) mine += chunks[i];
  mine = block_sum(shared.sum, mine);
  if (threadIdx.x == 0) *sum = mine;
}

constexpr int kMostSums = 64;  // a node takes 64 operands
struct Sums {
  const double* of[kMostSums];
};

// After a fault no optimizer of the run may step: NaN tells them.
__global__ void clip(Sums sums, int count, int own, double limit, const float* loss_scale, const int32_t* fault, float* scale, float* norm) {
  double sum = 0, guard = 0;
  for (int i = 0; i < count; ++i) (i < own ? sum : guard) += *sums.of[i];
  const double by = loss_scale ? *loss_scale : 1, length = sqrt(sum) / by;
  *norm = static_cast<float>(length);
  *scale = static_cast<float>(!(fabs(length + guard) < INFINITY) || (fault && *fault) ? NAN : (limit > 0 && length > limit ? limit / length : 1) / by);
}

}  // namespace

int64_t bce_workspace(const Call& call) { return bce_bytes(bce_args(call, false)); }
int64_t bce_dx_workspace(const Call& call) { return bce_bytes(bce_args(call, true)); }

void bce(const Call& call, const Queue& queue) {
  const BceArgs a = bce_args(call, false);
  const Bce b = sums(a, call, queue, "bce", true);
  each_tasks(call, a.tasks, [&](const TaskWeights& weights, int first, int count) {
    launch(queue.stream, "bce", bce_results, dim3(1), dim3(1), 0, b, weights, first, count, vector_of<float>("bce", a.loss),
           vector_of<float>("bce", a.per_task));
  });
}

void bce_dx(const Call& call, const Queue& queue) {
  const BceArgs a = bce_args(call, true);
  const Bce b = sums(a, call, queue, "bce_dx", false);
  each_tasks(call, a.tasks, [&](const TaskWeights& weights, int first, int count) {
    each_row(queue, "bce_dx", a.rows, 1, BceGradient{b, weights, first, count, vector_of<float>("bce_dx", a.dloss), vector_of<float>("bce_dx", a.dlogits)});
  });
}

int64_t sum_squares_workspace(const Call& call) {
  return divide_up(sum_squares_args(call).x.size(), kElements) * static_cast<int64_t>(sizeof(double));
}

void sum_squares(const Call& call, const Queue& queue) {
  const SumSquaresArgs a = sum_squares_args(call);
  const Values x = values("sum_squares", a.x);
  auto* chunks = static_cast<double*>(call.workspace);
  const int64_t count = divide_up(a.x.size(), kElements);
  launch(queue.stream, "sum_squares", square_chunks, dim3(grid_size("sum_squares", count)), dim3(kThreads), sizeof(SquaresShared), x, a.x.size(),
         vector_of<int32_t>("sum_squares", a.count), a.x.cols(), packs_aligned(x, kPack), chunks);
  launch(queue.stream, "sum_squares", add_chunks, dim3(1), dim3(kThreads), sizeof(SquaresShared), static_cast<const double*>(chunks), count,
         vector_of<double>("sum_squares", a.y));
}

void clip_scale(const Call& call, const Queue& queue) {
  const ClipScaleArgs a = clip_scale_args(call);
  if (a.count > kMostSums) throw shape_error("clip_scale: more sums than the device takes");
  Sums sums{};
  for (int i = 0; i < a.count; ++i) sums.of[i] = vector_of<double>("clip_scale", a.sums[i]);
  launch(queue.stream, "clip_scale", clip, dim3(1), dim3(1), 0, sums, a.count, a.own, a.limit,
         static_cast<const float*>(vector_of<float>("clip_scale", a.loss_scale)), static_cast<const int32_t*>(queue.fault), vector_of<float>("clip_scale", a.scale), vector_of<float>("clip_scale", a.norm));
}

}  // namespace longer::cuda
