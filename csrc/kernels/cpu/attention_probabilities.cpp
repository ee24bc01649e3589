#include "kernels/attention_probabilities.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention_kernels.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/widen.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kRows = 8;    // of a task
constexpr int kLanes = 16;      // partial sums of a product: one order of addition for every instruction set

template <class T>
float product(const float* q, const T* k, int64_t n) {
  float part[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) part[l] += q[i + l] * widen(k[i + l]);
  for (int l = 0; i + l < n; ++l) part[l] += q[i + l] * widen(k[i + l]);
  float sum = 0;
  for (const float x : part) sum += x;
  return sum;
}

template <class T>
const T* row_of(const Tensor& t, int64_t row, int64_t width) { return static_cast<const T*>(t.data) + row * width; }

template <class T>
void row(const AttentionProbabilitiesArgs& a, int64_t b, int64_t r, float* q, float* scores) {
  const int64_t shared = a.shared(b, r), keys = shared + a.own(r);
  float* p = a.p.f32() + r * a.most();
  std::fill(p, p + a.most(), 0.0f);
  if (keys == 0) return;
  const T* from = row_of<T>(a.q, r, a.width);
  for (int64_t i = 0; i < a.width; ++i) q[i] = widen(from[i]) * static_cast<float>(a.scale);
  for (int64_t g = 0; g < a.heads; ++g) {
    const int64_t column = g * a.head_width;
    float top = -INFINITY;
    for (int64_t j = 0; j < keys; ++j) {
      const T* k = j < shared ? row_of<T>(a.k, a.first_key(b) + j, a.width) : row_of<T>(a.own_k, a.first_own(r) + j - shared, a.width);
      top = std::max(top, scores[j] = product(q + column, k + column, a.head_width));
    }
    float sum = 0;
    for (int64_t j = 0; j < keys; ++j) sum += scores[j] = std::exp(scores[j] - top);
    const float share = 1 / (sum * static_cast<float>(a.heads));
    for (int64_t j = 0; j < keys; ++j) p[j] += scores[j] * share;
  }
}

int64_t scratch(const AttentionProbabilitiesArgs& a) { return align_up((a.width + a.most()) * 4); }

void probabilities(const AttentionProbabilitiesArgs& a, const Call& call) {
  a.check_values(call);
  const int64_t bytes = scratch(a), askers = a.q_offsets.i32()[a.requests];  // rows, or candidates
  const int64_t step = std::max<int64_t>(1, kRows / a.rows_each);
  call.pool->parallel_for((askers + step - 1) / step, [&](int64_t task, int worker) {
    float* q = reinterpret_cast<float*>(static_cast<char*>(call.workspace) + worker * bytes);
    each_segment(a.q_offsets.i32(), a.requests, task * step, std::min(askers, (task + 1) * step), [&](int64_t b, int64_t begin, int64_t end) {
      for (int64_t r = begin * a.rows_each; r < end * a.rows_each; ++r)
        a.q.dtype == DType::bf16 ? row<uint16_t>(a, b, r, q, q + a.width) : row<float>(a, b, r, q, q + a.width);
    });
  });
}

}  // namespace

int64_t attention_probabilities_workspace(const Call& call) { return scratch(attention_probabilities_args(call, false)) * call.pool->size(); }
int64_t candidate_attention_probabilities_workspace(const Call& call) { return scratch(attention_probabilities_args(call, true)) * call.pool->size(); }
void attention_probabilities(const Call& call) { probabilities(attention_probabilities_args(call, false), call); }
void candidate_attention_probabilities(const Call& call) { probabilities(attention_probabilities_args(call, true), call); }

}  // namespace longer::cpu
