// One call of a cpu kernel with buffers of its own.
#pragma once
#include <cmath>
#include <stdexcept>

#include "kernels/op.h"
#include "measure.h"
#include "runtime/arena.h"

namespace bench {

// Memory of a tensor with random numbers of [-range, range], or zeros.
class Buffer {
 public:
  Buffer(longer::DType type, std::vector<int64_t> dims, double range = 0) {
    tensor.dtype = type;
    tensor.rank = static_cast<int>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) tensor.dim[i] = dims[i];
    block_ = longer::MemoryBlock(tensor.bytes());
    tensor.data = block_.data();
    static std::mt19937 bits(11);
    std::uniform_real_distribution<float> uniform(static_cast<float>(-range), static_cast<float>(range));
    if (range > 0)
      for (int64_t i = 0; i < tensor.size(); ++i) {
        const float v = uniform(bits);
        uint32_t word;
        std::memcpy(&word, &v, 4);
        if (type == longer::DType::f32) tensor.f32()[i] = v;
        if (type == longer::DType::bf16) tensor.bf16()[i] = static_cast<uint16_t>(word >> 16);
      }
  }
  longer::Tensor tensor;

 private:
  longer::MemoryBlock block_;
};

class OpCall {
 public:
  OpCall(const char* op, std::vector<longer::Tensor> in, std::vector<longer::Tensor> out, std::vector<double> attributes, longer::ThreadPool& pool)
      : in_(std::move(in)), out_(std::move(out)), attributes_(std::move(attributes)), op_(longer::find_op(op)) {
    if (!op_) throw std::runtime_error(std::string("there is no operation ") + op);
    call_ = {in_.data(), static_cast<int>(in_.size()), out_.data(), static_cast<int>(out_.size()),
             attributes_.data(), static_cast<int>(attributes_.size()), &pool, nullptr};
    workspace_ = longer::MemoryBlock(op_->workspace ? op_->workspace(call_) : 0);
    call_.workspace = workspace_.data();
  }
  OpCall(const OpCall&) = delete;
  void operator()() const { op_->cpu(call_); }

 private:
  std::vector<longer::Tensor> in_, out_;
  std::vector<double> attributes_;
  const longer::Op* op_;
  longer::Call call_;
  longer::MemoryBlock workspace_;
};

}  // namespace bench
