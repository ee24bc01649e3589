#include "kernels/attention_probabilities.h"

#include "kernels/attention_kernels.h"
#include "kernels/reference/attention_row.h"

namespace longer::reference {

namespace {

void probabilities(const AttentionProbabilitiesArgs& a, const Call& call) {
  a.check_values(call);
  std::fill(a.p.f64(), a.p.f64() + a.p.size(), 0.0);
  for (int64_t b = 0; b < a.requests; ++b)
    for (int64_t r = a.first_row(b); r < a.first_row(b + 1); ++r)
      for (int64_t g = 0; g < a.heads; ++g) {
        std::vector<double> score;
        const double* q = a.q.f64() + r * a.width + g * a.head_width;
        const auto push = [&](const Tensor& k, int64_t row) { score.push_back(a.scale * dot(q, k.f64() + row * a.width + g * a.head_width, a.head_width)); };
        for (int64_t j = 0; j < a.shared(b, r); ++j) push(a.k, a.first_key(b) + j);
        for (int64_t t = 0; t < a.own(r); ++t) push(a.own_k, a.first_own(r) + t);
        if (score.empty()) continue;
        const double top = *std::max_element(score.begin(), score.end());
        double sum = 0;
        for (double& s : score) sum += s = std::exp(s - top);
        for (size_t j = 0; j < score.size(); ++j)  // own keys stand behind all shared ones, which a row with own keys sees
          a.p.f64()[r * a.most() + static_cast<int64_t>(j)] += score[j] / sum / static_cast<double>(a.heads);
      }
}

}  // namespace

void attention_probabilities(const Call& call) { probabilities(attention_probabilities_args(call, false), call); }
void candidate_attention_probabilities(const Call& call) { probabilities(attention_probabilities_args(call, true), call); }

}  // namespace longer::reference
