#include "plan/graph.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace longer {

namespace {
constexpr double kLargestSize = 9007199254740991.0;  // what a JavaScript number counts exactly
constexpr int kMostOperands = 64;

std::string quoted(const std::string& name) { return "'" + name + "'"; }
bool is_float(DType t) { return t != DType::i32; }
}  // namespace

CompiledGraph::CompiledGraph(GraphDescription description, std::shared_ptr<State> state, Backend backend)
    : graph_(std::move(description)), state_(std::move(state)), backend_(backend) {
  if (state_->backend() != backend_) throw graph_error("the state was made for another backend than the plan");
  const size_t count = graph_.values.size();
  uses_.resize(count);
  first_writer_.assign(count, -1);
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
  const std::string label = node_label(index);
  const Op* op = find_op(node.op);
  if (!op) throw graph_error(label + ": there is no operation " + quoted(node.op));
  ops_.push_back(op);
  const size_t operands = node.inputs.size() + node.outputs.size();
  if (operands > kMostOperands) throw graph_error(label + ": more than " + std::to_string(kMostOperands) + " operands");
  most_operands_ = std::max(most_operands_, static_cast<int>(operands));

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
    if (value.place == Place::store) writes_state_ = true;
    if (first_writer_[static_cast<size_t>(v)] < 0) first_writer_[static_cast<size_t>(v)] = index;
  }
  for (const auto* list : {&node.inputs, &node.outputs})
    for (int v : *list) {
      if (v < 0) continue;
      Use& use = uses_[static_cast<size_t>(v)];
      if (use.first < 0) use.first = index;
      use.last = index;
    }
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
  return static_cast<char*>(store.memory.data()) + graph_.values[static_cast<size_t>(value)].offset * dtype_size(store.held);
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

std::string CompiledGraph::node_label(int index) const {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  return "node " + std::to_string(index) + " " + quoted(node.name) + " (" + node.op + ")";
}

}  // namespace longer
