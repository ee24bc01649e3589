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

struct Tile;

struct Node {
  std::string op;
  std::string name;
  std::vector<int> inputs;  // value indices; -1 for an absent optional value
  std::vector<int> outputs;
  std::vector<double> attrs;
  std::shared_ptr<const Tile> tile = nullptr;  // of the op `tiled`
};

// How a tile, rows [a, b) of the batch, sees a value: lib/graph/graph.ts.
enum class TileRole : uint8_t { inner, row, whole, sum, offsets, segment, group_offsets, group };

// Nodes that run one after another on some rows, then on the next rows.
struct Tile {
  int symbol = -1;         // whose rows are cut
  int64_t rows = 1;        // most rows of a tile; one has at least a group
  int64_t group_size = 1;  // a tile begins and ends at a border of groups, counted from the end of each segment
  int offsets = -1, group_offsets = -1;         // value indices
  std::vector<std::pair<int, TileRole>> roles;  // of every value that the body touches
  std::vector<Node> body;
};

namespace cuda {
struct DeviceOp;
}

struct GraphDescription {
  std::vector<std::string> symbols;
  std::vector<Value> values;
  std::vector<Node> nodes;
  bool tf32 = false;  // products of f32 on a device take TF32 numbers, 11 bits of each factor
};

// A tile's body as it runs: operands are indices into the roles.
struct TileBody {
  const Tile* tile = nullptr;
  std::vector<std::vector<int>> operands;  // a node each: inputs, then outputs; -1 for absent
  std::vector<std::pair<int, int>> use;    // a role each: first and last node that touches it
  int offsets = -1, group_offsets = -1;    // indices into the roles
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
  // Operations one by one: a tiled node has as many as its body, any other node one. The cuda backend has no tiled nodes.
  struct Leaf {
    const Node* node;
    const Op* op;
    const cuda::DeviceOp* on_device;  // of the cuda backend
  };
  const std::vector<Leaf>& leaves() const { return leaves_; }
  int first_leaf(int node) const { return first_leaf_[static_cast<size_t>(node)]; }
  const Op& op(int node) const { return *leaves_[static_cast<size_t>(first_leaf(node))].op; }
  const TileBody* tile(int node) const { return tiles_[static_cast<size_t>(node)].get(); }  // null for other nodes
  const Use& use(int value) const { return uses_[static_cast<size_t>(value)]; }
  const std::vector<int>& inputs() const { return inputs_; }    // value indices, in the order of the description
  const std::vector<int>& outputs() const { return outputs_; }
  Backend backend() const { return backend_; }
  int64_t alignment() const { return backend_ == Backend::cuda ? 256 : kAlignment; }  // of a value's and a workspace's memory
  State& state() const { return *state_; }
  bool writes_state() const { return writes_state_; }
  // Whether a run may be given up before this node: not once the state is being updated, which would leave a part of it as it was.
  bool may_stop_before(int node) const { return first_update_ < 0 || node <= first_update_; }
  int most_operands() const { return most_operands_; }

  bool begins_as_given(int value) const { return begins_as_given_[static_cast<size_t>(value)] != 0; }  // its first writer works on it in place
  DType held_dtype(int value) const;  // what kernels get: f64 for every float of the reference backend
  void* store_data(int value) const;  // of a store value

  void check_sizes(const std::vector<double>& sizes) const;
  // Shape without data. The sizes are checked ones.
  Tensor shape(int value, const std::vector<double>& sizes) const;
  // A call of the leaf, with room for its operands and nothing else set.
  Call call_of(int leaf, Tensor* operands, ThreadPool& pool) const;
  // Run the leaf, or ask for its workspace; an error names it.
  void run_leaf(int leaf, const Call& call) const;
  int64_t workspace_of(int leaf, const Call& call) const;
  std::string leaf_label(int leaf) const;  // node 12 'layer0.ffn' (linear)

 private:
  void check_value(int index) const;
  void check_node(int index);
  const Op& add_leaf(const Node& node);
  void round_outputs(int leaf, const Call& call) const;
  void check_tile(int index);
  void check_uses() const;

  GraphDescription graph_;
  std::shared_ptr<State> state_;
  Backend backend_;
  std::vector<Leaf> leaves_;
  std::vector<int> first_leaf_;
  std::vector<std::unique_ptr<TileBody>> tiles_;  // a node each
  std::vector<Use> uses_;
  std::vector<int> first_writer_;
  std::vector<char> begins_as_given_;  // a value each
  std::vector<Store*> stores_;  // a value each
  std::vector<int> inputs_, outputs_;
  int most_operands_ = 0;
  bool writes_state_ = false;
  int first_update_ = -1;  // the first node that works in place on a store
};

}  // namespace longer
