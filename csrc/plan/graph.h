// The graph as described (GraphSpec of lib/native/types.ts) and as compiled against a state.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/op.h"
#include "plan/state.h"
#include "runtime/tensor.h"

namespace longer {

// constant + sum of coefficient * size of symbol
struct Dim {
  int64_t constant = 0;
  std::vector<std::pair<int, int64_t>> terms;
};

enum class Place : uint8_t { arena, input, output, store };

struct Value {
  std::string name;
  DType dtype = DType::f32;
  std::vector<Dim> dims;
  Place place = Place::arena;
  std::string store;
  int64_t offset = 0;  // elements of the store
};

struct Node {
  std::string op;
  std::string name;
  std::vector<int> inputs;  // value indices; -1 for an absent optional value
  std::vector<int> outputs;
  std::vector<double> attrs;
};

struct GraphDescription {
  std::vector<std::string> symbols;
  std::vector<Value> values;
  std::vector<Node> nodes;
};

// What is known of a graph before any size is: everything checked, operations and stores looked up. Immutable.
class CompiledGraph {
 public:
  CompiledGraph(GraphDescription description, std::shared_ptr<State> state, Backend backend);

  // Nodes that touch a value, in running order; -1 where none does.
  struct Use {
    int first = -1;
    int last = -1;
  };

  const GraphDescription& description() const { return graph_; }
  const std::vector<Value>& values() const { return graph_.values; }
  const std::vector<Node>& nodes() const { return graph_.nodes; }
  const Op& op(int node) const { return *ops_[static_cast<size_t>(node)]; }
  const Use& use(int value) const { return uses_[static_cast<size_t>(value)]; }
  const std::vector<int>& inputs() const { return inputs_; }    // value indices, in the order of the description
  const std::vector<int>& outputs() const { return outputs_; }
  Backend backend() const { return backend_; }
  State& state() const { return *state_; }
  bool writes_state() const { return writes_state_; }
  int most_operands() const { return most_operands_; }

  DType held_dtype(int value) const;  // what kernels get: f64 for every float of the reference backend
  void* store_data(int value) const;  // of a store value

  void check_sizes(const std::vector<double>& sizes) const;
  // Shape without data. The sizes are checked ones.
  Tensor shape(int value, const std::vector<double>& sizes) const;
  std::string node_label(int node) const;  // node 12 'layer0.ffn' (linear)

 private:
  void check_value(int index) const;
  void check_node(int index);
  void check_uses() const;

  GraphDescription graph_;
  std::shared_ptr<State> state_;
  Backend backend_;
  std::vector<const Op*> ops_;
  std::vector<Use> uses_;
  std::vector<int> first_writer_;
  std::vector<Store*> stores_;  // a value each
  std::vector<int> inputs_, outputs_;
  int most_operands_ = 0;
  bool writes_state_ = false;
};

}  // namespace longer
