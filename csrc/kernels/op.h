// What a kernel receives, and how an operation is listed.
//
// Contract of every kernel
//  * outputs are written, never accumulated into, unless the op's header says "in place";
//  * an absent optional input or output is a Tensor with present() == false;
//  * zero rows are legal everywhere; offsets are int64 in arithmetic;
//  * the value of an output row depends on the rows that the op's mathematics names and on nothing else:
//    not on the number of threads, not on other rows of the batch, not on where in the batch it stands;
//  * a reduction over rows runs over fixed-size chunks, combined in ascending order;
//  * reference kernels take f64 wherever the others take f32, bf16 or (on a device) f16.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/tensor.h"
#include "runtime/thread_pool.h"

namespace longer {

struct Call {
  const Tensor* in = nullptr;
  int ins = 0;
  const Tensor* out = nullptr;
  int outs = 0;
  const double* attr = nullptr;
  int attrs = 0;
  ThreadPool* pool = nullptr;
  void* workspace = nullptr;  // 64-byte aligned, of the size that Op::workspace asked for; contents undefined
  const void* prepared = nullptr;  // of the op's Prepare, if it was done; else null
  int64_t first_row = 0;      // where the rows of the call begin in the batch, when it gets a tile of them

  const Tensor& input(int i) const { static const Tensor none; return i < ins ? in[i] : none; }
  const Tensor& output(int i) const { static const Tensor none; return i < outs ? out[i] : none; }
  double number(int i) const { return attr[i]; }
  int64_t integer(int i) const { return static_cast<int64_t>(attr[i]); }
};

using Kernel = void (*)(const Call&);
using Workspace = int64_t (*)(const Call&);  // bytes; data pointers of the call are not set yet, shapes and pool are.
                                             // Fewer rows never need more.

// A form of an input that the kernel reads faster, worth keeping while the input does not change. The two see a call
// without outputs' and other inputs' data; the form depends on shapes and types of the inputs alone, never on their rows.
struct Prepare {
  int input;
  int64_t (*bytes)(const Call&);
  void (*fill)(const Call&, void* to);  // 64-byte aligned
};

struct Op {
  const char* name;
  Kernel reference;
  Kernel cpu;  // nullptr: a device has it, the CPU runs its parts
  Workspace workspace;  // of the cpu kernel; nullptr for none. Reference kernels allocate for themselves.
  const Prepare* prepare = nullptr;
  bool in_place = false;  // what its outputs hold before counts
};

struct OpList {
  const Op* ops;
  int count;
};

// One list a family of operations; registry.cpp joins them.
OpList dense_ops();
OpList attention_ops();
OpList rows_ops();
OpList embedding_ops();
OpList training_ops();

const Op* find_op(const std::string& name);  // nullptr when unknown
std::vector<std::string> op_names();

}  // namespace longer
