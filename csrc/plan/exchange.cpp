#include "plan/exchange.h"

#include <cstring>

#include "plan/executor.h"
#include "runtime/error.h"

namespace longer {

Exchange::Exchange(const CompiledGraph& graph, const RunRequest& request, DeviceLane& lane) : graph_(graph), lane_(lane), staging_(lane.take_staging()) {
  try {
    lay_out(request);
    staging_.reserve(end_);
  } catch (...) {
    staging_.taken = false;
    throw;
  }
}

Exchange::~Exchange() {
  try {
    if (sent_ && beside_) lane_.device()->synchronize(lane_.copies());
  } catch (...) {  // of a device that failed; whoever runs on it is told
  }
  staging_.taken = false;
}

// Whether an array is that of one of the first outputs, a pool of pages being several outputs in one array: as copies of their own
// the last would overwrite the others.
bool Exchange::shares(int64_t bytes, const Borrowed& array, const RunRequest& request, int value, size_t before, size_t* with) const {
  const char* from = static_cast<const char*>(array.data);
  for (size_t i = 0; i < before; ++i) {
    const Borrowed& other = request.outputs[i];
    const int64_t size = other.count * dtype_size(other.dtype);
    const char* begin = static_cast<const char*>(other.data);
    if (other.absent || other.memory || bytes == 0 || from >= begin + size || begin >= from + bytes) continue;
    if (from != begin || bytes != size) {
      const auto name = [&](int v) { return "'" + graph_.values()[static_cast<size_t>(v)].name + "'"; };
      throw shape_error("the arrays of " + name(value) + " and " + name(graph_.outputs()[i]) + " overlap without being the same");
    }
    *with = i;
    return true;
  }
  return false;
}

void Exchange::lay_out(const RunRequest& request) {
  const auto& ins = graph_.inputs();
  const auto& outs = graph_.outputs();
  offsets_.assign(graph_.values().size(), -1);
  const auto on_host = [](const Borrowed& a) { return !a.absent && !a.memory; };
  const auto bytes_of = [](const Borrowed& a) { return a.count * dtype_size(a.dtype); };
  // Who lies in the place of which output.
  std::vector<size_t> of_output(outs.size()), of_input(ins.size(), outs.size());
  std::vector<char> as_given(outs.size(), 0);
  for (size_t i = 0; i < outs.size(); ++i) {
    of_output[i] = i;
    if (!on_host(request.outputs[i])) continue;
    size_t with = i;
    if (shares(bytes_of(request.outputs[i]), request.outputs[i], request, outs[i], i, &with)) of_output[i] = of_output[with], as_given[of_output[i]] = 1;
    else as_given[i] = graph_.begins_as_given(outs[i]);
  }
  for (size_t i = 0; i < ins.size(); ++i) {
    size_t with = 0;
    if (on_host(request.inputs[i]) && shares(bytes_of(request.inputs[i]), request.inputs[i], request, ins[i], outs.size(), &with)) of_input[i] = of_output[with], as_given[of_input[i]] = 1;
  }
  int64_t at = 0;
  const auto place = [&](int v, const Borrowed& array) {
    offsets_[static_cast<size_t>(v)] = at;
    const Piece piece{array.data, at, bytes_of(array)};
    at += align_up(piece.bytes, graph_.alignment());
    return piece;
  };
  for (size_t i = 0; i < ins.size(); ++i)
    if (on_host(request.inputs[i]) && of_input[i] == outs.size()) in_.push_back(place(ins[i], request.inputs[i]));
  out_begin_ = at;
  for (const char given : {1, 0}) {
    for (size_t i = 0; i < outs.size(); ++i) {
      if (!on_host(request.outputs[i]) || of_output[i] != i || as_given[i] != given) continue;
      out_.push_back(place(outs[i], request.outputs[i]));
      if (given) in_.push_back(out_.back());
    }
    if (given) in_end_ = at;
  }
  for (size_t i = 0; i < outs.size(); ++i)
    if (of_output[i] != i) offsets_[static_cast<size_t>(outs[i])] = offsets_[static_cast<size_t>(outs[of_output[i]])];
  for (size_t i = 0; i < ins.size(); ++i)
    if (of_input[i] != outs.size()) offsets_[static_cast<size_t>(ins[i])] = offsets_[static_cast<size_t>(outs[of_input[i]])];
  words_ = at;
  end_ = at + static_cast<int64_t>(sizeof(Words));
}

int64_t Exchange::most_bytes(const CompiledGraph& graph, const std::vector<double>& sizes) {
  int64_t bytes = static_cast<int64_t>(sizeof(Words));
  for (const auto* list : {&graph.inputs(), &graph.outputs()})
    for (int v : *list) bytes += align_up(graph.shape(v, sizes).bytes(), graph.alignment());
  return bytes;
}

void Exchange::send(bool beside) {
  for (const Piece& p : in_)
    if (p.bytes > 0) std::memcpy(staging_.host() + p.offset, p.host, static_cast<size_t>(p.bytes));
  const Stream stream = beside ? lane_.copies() : lane_.stream();
  sent_ = true, beside_ = beside;
  lane_.device()->copy_in(staging_.device(), staging_.host(), in_end_, stream);
  if (beside) lane_.device()->record(staging_.arrived(), stream);
}

void Exchange::join() {
  if (!sent_) send(false);
  if (beside_) lane_.device()->wait(lane_.stream(), staging_.arrived());
}

void Exchange::receive() { lane_.device()->copy_out(staging_.host() + out_begin_, staging_.device() + out_begin_, end_ - out_begin_, lane_.stream()); }

void Exchange::give() const {
  for (const Piece& p : out_)
    if (p.bytes > 0) std::memcpy(p.host, staging_.host() + p.offset, static_cast<size_t>(p.bytes));
}

uint8_t* Exchange::data(int value) const {
  const int64_t offset = offsets_[static_cast<size_t>(value)];
  return offset < 0 ? nullptr : staging_.device() + offset;
}

}  // namespace longer
