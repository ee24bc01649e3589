// The arrays of the host that one run on a device takes and gives: where they lie in a staging, and their ways in and out.
#pragma once
#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "runtime/device_lane.h"

namespace longer {

struct RunRequest;
struct Borrowed;

// Layout: inputs; outputs that count as the caller has them (worked on in place, or in one array with another value); other
// outputs; the words that kernels report in. The first two go in as one copy, the last three come out as one.
class Exchange {
 public:
  // Of a checked request; takes a staging of the lane until it is destroyed.
  // Throws ERR_SHAPE for arrays that overlap without being the same, ERR_MEMORY.
  Exchange(const CompiledGraph& graph, const RunRequest& request, DeviceLane& lane);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Of the device's memory, where the host gives and takes all that it can.
  static int64_t most_bytes(const CompiledGraph& graph, const std::vector<double>& sizes);

  // Copies the inputs into pinned memory, and queues their way to the device: beside the run under way, or on its stream.
  void send(bool beside);
  void join();     // what is queued on the stream from here on finds the inputs
  void receive();  // queues the way of the outputs and words out
  void give() const;  // copies outputs to the caller, once they are out

  // Where a value is on the device; nullptr for one that the host does not have.
  uint8_t* data(int value) const;
  struct Words {
    int32_t fault, not_finite;  // codes: the largest stays
  };
  Words* words() const { return reinterpret_cast<Words*>(staging_.device() + words_); }
  const Words& found() const { return *reinterpret_cast<const Words*>(staging_.host() + words_); }

 private:
  struct Piece {
    void* host;
    int64_t offset, bytes;
  };
  void lay_out(const RunRequest& request);
  bool shares(int64_t bytes, const Borrowed& array, const RunRequest& request, int value, size_t before, size_t* with) const;

  const CompiledGraph& graph_;
  DeviceLane& lane_;
  Staging& staging_;
  std::vector<int64_t> offsets_;  // a value each; -1 for none
  std::vector<Piece> in_, out_;
  int64_t in_end_ = 0, out_begin_ = 0, words_ = 0, end_ = 0;
  bool sent_ = false, beside_ = false;
};

}  // namespace longer
