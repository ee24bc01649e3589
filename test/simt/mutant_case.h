// A case of an operation, run by a mutant of its kernel.
#pragma once
#include "simt/emulated_device.h"
#include "simt/mutant.h"
#include "simt/op_case.h"

namespace simt {

inline const Mutant& mutant_called(const std::string& name) {
  const auto found = mutants().find(name);
  if (found == mutants().end()) throw std::runtime_error("there is no mutant " + name);
  return found->second;
}

inline const Mutant::Op* running;  // of the child process

// Is the result near the reference, and does it have the bits of the schedule `forward`?
inline bool right(OpCase& c, const Mutant::Op& op, longer::DType type, double roundings = 3) {
  running = &op;
  static const longer::cuda::DeviceOp mutant{"mutant", [](const longer::Call& call, const longer::cuda::Queue& queue) { running->run(call, queue.stream); },
                                     [](const longer::Call& call) { return running->workspace(call); }};
  auto device = open_emulated_device();
  c.on(mutant).run_reference();
  c.run_device(*device);
  for (int i = 0; i < c.outputs(); ++i)
    if (!(c.error(i) <= (type == longer::DType::bf16 ? roundings / 512 : 3e-6))) return false;
  std::vector<std::vector<double>> first;
  for (int i = 0; i < c.outputs(); ++i) first.push_back(c.result(i));
  options().schedule = Schedule::forward;
  c.run_device(*device);
  for (int i = 0; i < c.outputs(); ++i)
    if (c.result(i) != first[static_cast<size_t>(i)]) return false;
  return true;
}

}  // namespace simt
