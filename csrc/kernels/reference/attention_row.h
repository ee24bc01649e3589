// One query row of one head against an explicit list of keys, in double: what every attention op is made of.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace longer::reference {

struct KeyRow {
  const double* k;
  const double* v;
  double* dk;  // backward only
  double* dv;
};

inline double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

inline double attention_row(const double* q, const std::vector<KeyRow>& keys, int64_t width, double scale, double* o) {
  std::fill(o, o + width, 0.0);
  if (keys.empty()) return -std::numeric_limits<double>::infinity();
  std::vector<double> score(keys.size());
  for (size_t j = 0; j < keys.size(); ++j) score[j] = scale * dot(q, keys[j].k, width);
  const double top = *std::max_element(score.begin(), score.end());
  double sum = 0;
  for (double& s : score) sum += s = std::exp(s - top);
  for (size_t j = 0; j < keys.size(); ++j)
    for (int64_t i = 0; i < width; ++i) o[i] += score[j] / sum * keys[j].v[i];
  return top + std::log(sum);
}

// Writes dq and adds to dk and dv of the keys.
inline void attention_row_dx(const double* q, const std::vector<KeyRow>& keys, int64_t width, double scale,
                             const double* o, double lse, const double* d_o, double* dq) {
  std::fill(dq, dq + width, 0.0);
  const double delta = dot(o, d_o, width);
  for (const KeyRow& key : keys) {
    const double p = std::exp(scale * dot(q, key.k, width) - lse);
    const double ds = scale * p * (dot(d_o, key.v, width) - delta);
    for (int64_t i = 0; i < width; ++i) {
      dq[i] += ds * key.k[i];
      key.dk[i] += ds * q[i];
      key.dv[i] += p * d_o[i];
    }
  }
}

}  // namespace longer::reference
