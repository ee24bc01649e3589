// A variant of a kernel (mutants.cmake), compiled under a namespace of its own.
#pragma once
#include <map>
#include <string>

#include "kernels/op.h"
#include "runtime/device.h"

namespace simt {

struct Mutant {
  struct Op {
    void (*run)(const longer::Call& call, longer::Stream stream);
    int64_t (*workspace)(const longer::Call& call);
  };
  Op forward, backward;  // candidate_attention or inner_transformer and its gradient; linear and nothing; or what the planted test says
};

inline std::map<std::string, Mutant>& mutants() {
  static std::map<std::string, Mutant> all;
  return all;
}

}  // namespace simt
