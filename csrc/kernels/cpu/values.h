// A run of f32 or bf16 numbers, as the tables of kernels take it. No functions here: files of every instruction set
// include this.
#pragma once

namespace longer::cpu {

struct Values {
  void* data = nullptr;  // null: absent
  bool is_bf16 = false;
};

}  // namespace longer::cpu
