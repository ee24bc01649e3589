#include "kernels/op.h"

namespace longer {

const Op* find_op(const std::string& name) {
  for (const OpList list : {dense_ops(), attention_ops(), rows_ops(), embedding_ops(), training_ops()})
    for (int i = 0; i < list.count; ++i)
      if (name == list.ops[i].name) return &list.ops[i];
  return nullptr;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpList list : {dense_ops(), attention_ops(), rows_ops(), embedding_ops(), training_ops()})
    for (int i = 0; i < list.count; ++i) names.push_back(list.ops[i].name);
  return names;
}

}  // namespace longer
