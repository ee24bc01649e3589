#include "plan/graph.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "kernels/cuda/kernels.h"
#include "plan/convert.h"
#include "runtime/error.h"

namespace longer {

namespace {
constexpr double kLargestSize = 9007199254740991.0;  // what a JavaScript number counts exactly
constexpr int kMostOperands = 64;

std::string quoted(const std::string& name) { return "'" + name + "'"; }
bool is_float(DType t) { return t != DType::i32; }

std::string node_label(const Node& node, int index) {
  return "node " + std::to_string(index) + " " + quoted(node.name) + " (" + node.op + ")";
}

// Tiles keep rows in a core's cache; a device works on all rows at once.
std::vector<Node> without_tiles(const std::vector<Node>& nodes) {
  std::vector<Node> all;
  for (const Node& node : nodes)
    if (node.tile) all.insert(all.end(), node.tile->body.begin(), node.tile->body.end());
    else all.push_back(node);
  return all;
}
}  // namespace

CompiledGraph::CompiledGraph(GraphDescription description, std::shared_ptr<State> state, Backend backend)
    : graph_(std::move(description)), state_(std::move(state)), backend_(backend) {
  if (state_->backend() != backend_) throw graph_error("the state was made for another backend than the plan");
  if (graph_.tf32 && backend_ == Backend::cpu) throw Error("ERR_DEVICE", "tf32 runs on CUDA; use fp32 on the CPU");
  if (backend_ == Backend::cuda) graph_.nodes = without_tiles(graph_.nodes);
  const size_t count = graph_.values.size();
  uses_.resize(count);
  first_writer_.assign(count, -1);
  begins_as_given_.assign(count, 0);
  stores_.assign(count, nullptr);
  for (size_t v = 0; v < count; ++v) {
    const Value& value = graph_.values[v];
    if (value.place == Place::input) inputs_.push_back(static_cast<int>(v));
    if (value.place == Place::output) outputs_.push_back(static_cast<int>(v));
    if (value.place == Place::store) {
      stores_[v] = state_->find(value.store);
      if (!stores_[v]) throw graph_error("value " + quoted(value.name) + ": there is no store " + quoted(value.store));
    }
    check_value(static_cast<int>(v));
  }
  for (size_t n = 0; n < graph_.nodes.size(); ++n) check_node(static_cast<int>(n));
  check_uses();
}

void CompiledGraph::check_value(int index) const {
  const Value& value = graph_.values[static_cast<size_t>(index)];
  const std::string label = "value " + quoted(value.name);
  if (value.dtype == DType::f16 && backend_ == Backend::cpu)
    throw Error("ERR_DEVICE", label + ": fp16 runs on CUDA; use bf16 or fp32 on the CPU");
  if (value.dims.size() > 4) throw graph_error(label + ": more than 4 dimensions");
  bool constant = true;
  for (const Dim& dim : value.dims) {
    constant = constant && dim.terms.empty();
    if (dim.terms.empty() && dim.constant < 0) throw graph_error(label + ": a negative dimension");
    for (const auto& term : dim.terms)
      if (term.first < 0 || term.first >= static_cast<int>(graph_.symbols.size()))
        throw graph_error(label + ": no symbol has index " + std::to_string(term.first));
  }
  const Store* store = stores_[static_cast<size_t>(index)];
  if (!store) return;
  if (value.dtype != store->declared)
    throw graph_error(label + ": its dtype is not that of store " + quoted(store->name));
  if (value.offset < 0 || value.offset > store->size)
    throw graph_error(label + ": offset " + std::to_string(value.offset) + " is outside store " + quoted(store->name));
  if (constant) shape(index, {});  // checks the range
}

void CompiledGraph::check_node(int index) {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  first_leaf_.push_back(static_cast<int>(leaves_.size()));
  tiles_.emplace_back();
  if (node.tile) for (const Node& inner : node.tile->body) add_leaf(inner);
  else add_leaf(node);
  const std::string label = node_label(node, first_leaf(index));

  const int count = static_cast<int>(graph_.values.size());
  const auto check_index = [&](int v, const char* kind) {
    if (v < -1 || v >= count) throw graph_error(label + ": no value has index " + std::to_string(v) + " (" + kind + ")");
  };
  for (int v : node.inputs) check_index(v, "input");
  for (int v : node.outputs) check_index(v, "output");
  for (int v : node.inputs) {
    if (v < 0) continue;
    const Value& value = graph_.values[static_cast<size_t>(v)];
    const bool must_be_written = value.place == Place::arena || value.place == Place::output;
    if (must_be_written && first_writer_[static_cast<size_t>(v)] < 0)
      throw graph_error(label + ": reads " + quoted(value.name) + " before any node writes it");
  }
  for (int v : node.outputs) {
    if (v < 0) continue;
    const Value& value = graph_.values[static_cast<size_t>(v)];
    if (value.place == Place::input) throw graph_error(label + ": writes the input " + quoted(value.name));
    if (value.place == Place::store) {
      writes_state_ = true;
      if (first_update_ < 0 && op(index).in_place) first_update_ = index;
    }
    if (first_writer_[static_cast<size_t>(v)] >= 0) continue;
    first_writer_[static_cast<size_t>(v)] = index;
    begins_as_given_[static_cast<size_t>(v)] = op(index).in_place;
  }
  if (node.tile) check_tile(index);
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) {
      if (v < 0) continue;
      Use& use = uses_[static_cast<size_t>(v)];
      if (use.first < 0) use.first = index;
      use.last = index;
    }
}

const Op& CompiledGraph::add_leaf(const Node& node) {
  const std::string label = node_label(node, static_cast<int>(leaves_.size()));
  const Op* op = find_op(node.op);
  if (!op || node.tile) throw graph_error(label + ": there is no operation " + quoted(node.op));
  const cuda::DeviceOp* on_device = nullptr;
  if (backend_ == Backend::cuda && !(on_device = cuda::find_device_op(node.op)))
    throw Error("ERR_DEVICE", label + ": the operation " + quoted(node.op) + " has no CUDA kernel yet; this model runs on the CPU");
  const size_t operands = node.inputs.size() + node.outputs.size();
  if (operands > kMostOperands) throw graph_error(label + ": more than " + std::to_string(kMostOperands) + " operands");
  most_operands_ = std::max(most_operands_, static_cast<int>(operands));
  leaves_.push_back({&node, op, on_device});
  return *op;
}

// What runs a tile relies on: every value has one role, that its shape allows; what lives inside is written before it is
// read and seen by nobody else; what leads outside is an operand of the node.
void CompiledGraph::check_tile(int index) {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  const Tile& tile = *node.tile;
  const std::string label = node_label(node, first_leaf(index));
  const auto fail = [&](int v, const char* what) {
    const bool known = v >= 0 && v < static_cast<int>(graph_.values.size());
    return graph_error(label + ": " + (known ? quoted(graph_.values[static_cast<size_t>(v)].name) : std::to_string(v)) + " " + what);
  };
  if (tile.symbol < 0 || tile.symbol >= static_cast<int>(graph_.symbols.size()) || tile.rows < 1 || tile.group_size < 1 || tile.body.empty())
    throw graph_error(label + ": a tile needs a symbol, rows, a group size and a body");
  auto body = std::make_unique<TileBody>();
  body->tile = &tile;
  body->use.assign(tile.roles.size(), {-1, -1});
  const auto among = [](const std::vector<int>& list, int v) { return std::find(list.begin(), list.end(), v) != list.end(); };
  std::vector<int> entry(graph_.values.size(), -1);
  for (size_t i = 0; i < tile.roles.size(); ++i) {
    const auto [v, role] = tile.roles[i];
    if (v < 0 || v >= static_cast<int>(graph_.values.size()) || entry[static_cast<size_t>(v)] >= 0) throw fail(v, "is no value or has two roles");
    entry[static_cast<size_t>(v)] = static_cast<int>(i);
    const Value& value = graph_.values[static_cast<size_t>(v)];
    if (role == TileRole::inner ? value.place != Place::arena || first_writer_[static_cast<size_t>(v)] >= 0 || among(node.outputs, v)
                                : !among(node.inputs, v) && !among(node.outputs, v))
      throw fail(v, "leads outside without being an operand, or the other way round");
    const bool cut = !value.dims.empty() && value.dims[0].terms.size() == 1 && value.dims[0].terms[0] == std::make_pair(tile.symbol, int64_t{1});
    if ((role == TileRole::row || role == TileRole::inner) && !cut) throw fail(v, "does not have the rows that are cut");
    if (role == TileRole::inner && value.dims[0].constant != 0) throw fail(v, "has other rows than the tile");
    if ((role == TileRole::offsets) != (v == tile.offsets) || (role == TileRole::group_offsets) != (v == tile.group_offsets))
      throw fail(v, "is not the offsets of the tile");
    if ((role == TileRole::offsets || role == TileRole::group_offsets) && value.dtype != DType::i32) throw fail(v, "must be i32");
    if (role == TileRole::sum && value.dtype != DType::f32) throw fail(v, "must be f32 to be summed");
    const bool by_group = role == TileRole::group || role == TileRole::group_offsets;
    if ((role == TileRole::segment || by_group || tile.group_size > 1) && tile.offsets < 0) throw fail(v, "needs offsets");
    if (role == TileRole::group && tile.group_offsets < 0) throw fail(v, "needs offsets of groups");
  }
  const auto find = [&](int v) { return v < 0 ? -1 : entry[static_cast<size_t>(v)]; };
  body->offsets = find(tile.offsets);
  body->group_offsets = find(tile.group_offsets);
  for (size_t n = 0; n < tile.body.size(); ++n) {
    const Node& inner = tile.body[n];
    body->operands.emplace_back();
    const auto take = [&](int v, bool written) {
      if (v >= static_cast<int>(entry.size()) || (v >= 0 && entry[static_cast<size_t>(v)] < 0)) throw fail(v, "has no role");
      const int e = v < 0 ? -1 : entry[static_cast<size_t>(v)];
      body->operands.back().push_back(e);
      if (e < 0) return;
      auto& [first, last] = body->use[static_cast<size_t>(e)];
      const TileRole role = tile.roles[static_cast<size_t>(e)].second;
      const bool made = role == TileRole::inner || among(node.outputs, v);
      if (written ? !made || (role != TileRole::inner && role != TileRole::row && role != TileRole::sum && role != TileRole::group)
                  : made && (first < 0 || (role != TileRole::inner && role != TileRole::row)))
        throw fail(v, written ? "is written against its role" : "is read before it is whole");
      if (first < 0) first = static_cast<int>(n);
      last = static_cast<int>(n);
    };
    for (int v : inner.inputs) take(v, false);
    for (int v : inner.outputs) take(v, true);
  }
  tiles_.back() = std::move(body);
}

void CompiledGraph::check_uses() const {
  for (int v : outputs_)
    if (first_writer_[static_cast<size_t>(v)] < 0)
      throw graph_error("no node writes the output " + quoted(graph_.values[static_cast<size_t>(v)].name));
}

DType CompiledGraph::held_dtype(int value) const {
  const DType declared = graph_.values[static_cast<size_t>(value)].dtype;
  return backend_ == Backend::reference && is_float(declared) ? DType::f64 : declared;
}

void* CompiledGraph::store_data(int value) const {
  const Store& store = *stores_[static_cast<size_t>(value)];
  return static_cast<char*>(store.data) + graph_.values[static_cast<size_t>(value)].offset * dtype_size(store.held);
}

void CompiledGraph::check_sizes(const std::vector<double>& sizes) const {
  if (sizes.size() != graph_.symbols.size())
    throw shape_error("expected " + std::to_string(graph_.symbols.size()) + " sizes, got " + std::to_string(sizes.size()));
  for (size_t i = 0; i < sizes.size(); ++i)
    if (!(sizes[i] >= 0 && sizes[i] <= kLargestSize && sizes[i] == std::floor(sizes[i])))
      throw shape_error("size " + quoted(graph_.symbols[i]) + " is not a whole number of 0 or more");
}

Tensor CompiledGraph::shape(int index, const std::vector<double>& sizes) const {
  const Value& value = graph_.values[static_cast<size_t>(index)];
  const auto fail = [&](const char* what) { return shape_error("value " + quoted(value.name) + ": " + what); };
  Tensor t;
  t.dtype = held_dtype(index);
  t.rank = static_cast<int>(value.dims.size());
  int64_t bytes = dtype_size(t.dtype);
  for (int d = 0; d < t.rank; ++d) {
    const Dim& dim = value.dims[static_cast<size_t>(d)];
    int64_t extent = dim.constant;
    for (const auto& [symbol, coefficient] : dim.terms) {
      int64_t part = 0;
      if (__builtin_mul_overflow(coefficient, static_cast<int64_t>(sizes[static_cast<size_t>(symbol)]), &part) ||
          __builtin_add_overflow(extent, part, &extent))
        throw fail("too large");
    }
    if (extent < 0) throw fail("a dimension is negative at these sizes");
    t.dim[d] = extent;
    if (extent > 0 && __builtin_mul_overflow(bytes, extent, &bytes)) throw fail("too large");
  }
  if (bytes > (int64_t{1} << 50)) throw fail("too large");
  if (const Store* store = stores_[static_cast<size_t>(index)])
    if (t.size() > store->size - value.offset)
      throw fail(("elements " + std::to_string(value.offset) + " to " + std::to_string(value.offset + t.size()) +
                  " are outside store '" + store->name + "' of " + std::to_string(store->size)).c_str());
  return t;
}

Call CompiledGraph::call_of(int leaf, Tensor* operands, ThreadPool& pool) const {
  const Node& node = *leaves_[static_cast<size_t>(leaf)].node;
  Call call;
  call.in = operands;
  call.ins = static_cast<int>(node.inputs.size());
  call.out = operands + call.ins;
  call.outs = static_cast<int>(node.outputs.size());
  call.attr = node.attrs.data();
  call.attrs = static_cast<int>(node.attrs.size());
  call.pool = &pool;
  return call;
}

// The reference computes in double, and rounds what the graph declares as bf16 or f16: the best that such a type can do.
void CompiledGraph::round_outputs(int leaf, const Call& call) const {
  const std::vector<int>& outputs = leaves_[static_cast<size_t>(leaf)].node->outputs;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] >= 0) round_to(graph_.values[static_cast<size_t>(outputs[i])].dtype, call.out[i].f64(), call.out[i].size());
}

void CompiledGraph::run_leaf(int leaf, const Call& call) const {
  const Op& op = *leaves_[static_cast<size_t>(leaf)].op;
  try {
    (backend_ == Backend::reference ? op.reference : op.cpu)(call);
    if (backend_ == Backend::reference) round_outputs(leaf, call);
  } catch (const std::bad_alloc&) {
    throw memory_error(leaf_label(leaf) + ": out of memory");
  } catch (const std::exception& error) {
    throw Error("ERR_KERNEL", leaf_label(leaf) + ": " + error.what());
  }
}

int64_t CompiledGraph::workspace_of(int leaf, const Call& call) const {
  const Leaf& at = leaves_[static_cast<size_t>(leaf)];
  const Workspace workspace = backend_ == Backend::cuda ? at.on_device->workspace : backend_ == Backend::cpu ? at.op->workspace : nullptr;
  if (!workspace) return 0;
  try {
    return workspace(call);
  } catch (const std::exception& error) {
    throw Error("ERR_KERNEL", leaf_label(leaf) + ": " + error.what());
  }
}

std::string CompiledGraph::leaf_label(int leaf) const { return node_label(*leaves_[static_cast<size_t>(leaf)].node, leaf); }

}  // namespace longer
