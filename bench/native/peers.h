// The linear layer as other libraries compute it.
#pragma once
#include <memory>
#include <vector>

#include "runtime/tensor.h"
#include "runtime/thread_pool.h"

namespace bench {

// y = x w + bias + residual, or gelu(x w + bias).
struct LinearProblem {
  longer::Tensor x, w, bias, residual;
  bool gelu;
  longer::ThreadPool* pool;
};

class PeerLinear {
 public:
  virtual ~PeerLinear() = default;
  virtual const char* name() const = 0;
  virtual void run() = 0;
  virtual double difference(const longer::Tensor& y) const = 0;  // largest, from a result of ours
};

// Those that were built in and can do the problem.
std::vector<std::unique_ptr<PeerLinear>> peer_linears(const LinearProblem& problem);

double largest_difference(const longer::Tensor& a, const longer::Tensor& b);

}  // namespace bench
