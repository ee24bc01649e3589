#include "kernels/pairs.h"

#include <cstring>

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/tensor_values.h"
#include "kernels/rows_kernels.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kBlock = 256;  // events of a request that a task takes with all candidates; a chunk of the sums over events

int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }
int64_t most_blocks(int64_t events, int64_t requests) { return events / kBlock + requests; }

// A block of a request's events. `rows` counts the candidates of all blocks before it.
struct EventBlock {
  int64_t request, event, events, rows;
};

// Fills blocks (there is room for most_blocks) and returns how many there are.
int64_t list_blocks(const PairOffsets& at, EventBlock* blocks) {
  int64_t n = 0, rows = 0;
  for (int64_t r = 0; r < at.requests; ++r)
    for (int64_t e = at.events[r]; e < at.events[r + 1]; e += kBlock) {
      blocks[n++] = {r, e, std::min<int64_t>(kBlock, at.events[r + 1] - e), rows};
      rows += at.candidates[r + 1] - at.candidates[r];
    }
  return n;
}

// Row of pairs of a candidate and an event of request r.
int64_t pair_row(const PairOffsets& at, int64_t r, int64_t candidate, int64_t event) {
  return at.pairs[r] + (candidate - at.candidates[r]) * (at.events[r + 1] - at.events[r]) + event - at.events[r];
}

int64_t block_bytes(int64_t events, int64_t requests) {
  return align_up(most_blocks(events, requests) * static_cast<int64_t>(sizeof(EventBlock)));
}

}  // namespace

void pair_features(const Call& call) {
  const PairFeaturesArgs a = pair_features_args(call, false);
  const PairRows rows{values(a.c), values(a.e), values(a.y), a.width};
  split(*call.pool, a.pairs, rows_a_task(4 * a.width), [&](int64_t begin, int64_t end) {
    each_segment(a.at.pairs, a.at.requests, begin, end, [&](int64_t r, int64_t from, int64_t to) {
      const int64_t events = a.at.events[r + 1] - a.at.events[r];
      while (from < to) {
        const int64_t within = from - a.at.pairs[r], first = within % events, n = std::min(to - from, events - first);
        row_ops().pair_features(rows, a.at.candidates[r] + within / events, a.at.events[r] + first, n, from);
        from += n;
      }
    });
  });
}

// Partial sums of dc over a block of events: at most a row for every block and candidate.
int64_t pair_features_dx_workspace(const Call& call) {
  const PairFeaturesArgs a = pair_features_args(call, true);
  const int64_t partials = (a.pairs / kBlock + a.candidates) * a.width;
  return block_bytes(a.events, a.at.requests) + align_up(partials * 4) + call.pool->size() * kBlock * padded(a.width) * 4;
}

void pair_features_dx(const Call& call) {
  const PairFeaturesArgs a = pair_features_args(call, true);
  const PairRows rows{values(a.c), values(a.e), values(a.y), a.width};
  const Values dc = values(a.dc), de = values(a.de);
  EventBlock* blocks = static_cast<EventBlock*>(call.workspace);
  const int64_t count = list_blocks(a.at, blocks);
  float* partials = reinterpret_cast<float*>(static_cast<char*>(call.workspace) + block_bytes(a.events, a.at.requests));
  float* sums = partials + align_up((a.pairs / kBlock + a.candidates) * a.width * 4) / 4;
  call.pool->parallel_for(count, [&](int64_t task, int worker) {
    const EventBlock b = blocks[task];
    float* sum = sums + worker * kBlock * padded(a.width);
    std::memset(sum, 0, static_cast<size_t>(b.events * a.width) * 4);
    const int64_t first = a.at.candidates[b.request], last = a.at.candidates[b.request + 1];
    for (int64_t c = first; c < last; ++c)
      row_ops().pair_features_dx(rows, c, b.event, b.events, pair_row(a.at, b.request, c, b.event),
                                 partials + (b.rows + c - first) * a.width, sum);
    row_ops().copy({sum, false}, 0, 0, de, b.event * a.width, 0, 1, b.events * a.width);
  });
  int64_t block = 0;
  for (int64_t r = 0; r < a.at.requests; ++r) {
    const int64_t first = a.at.candidates[r], candidates = a.at.candidates[r + 1] - first;
    const int64_t here = (a.at.events[r + 1] - a.at.events[r] + kBlock - 1) / kBlock;
    const float* from = partials + (here ? blocks[block].rows : 0) * a.width;
    row_ops().strided_sum(from, candidates * a.width, here, dc, first * a.width, candidates * a.width);
    block += here;
  }
}

void pair_pool(const Call& call) {
  constexpr int64_t kTogether = 4;  // candidates that share a reading of the events
  const PairPoolArgs a = pair_pool_args(call, false);
  const Values w = values(a.w), e = values(a.e), y = values(a.y);
  split(*call.pool, a.candidates, kTogether, [&](int64_t begin, int64_t end) {
    each_segment(a.at.candidates, a.at.requests, begin, end, [&](int64_t r, int64_t from, int64_t to) {
      const int64_t first = a.at.events[r], events = a.at.events[r + 1] - first;
      row_ops().pair_pool(w, pair_row(a.at, r, from, first), events, e, first, events, y, from, to - from, a.width);
    });
  });
}

int64_t pair_pool_dx_workspace(const Call& call) {
  const PairPoolArgs a = pair_pool_args(call, true);
  return block_bytes(a.events, a.at.requests) + call.pool->size() * kBlock * padded(a.width) * 4;
}

void pair_pool_dx(const Call& call) {
  const PairPoolArgs a = pair_pool_args(call, true);
  const Values w = values(a.w), e = values(a.e), dy = values(a.y), dw = values(a.dw), de = values(a.de);
  EventBlock* blocks = static_cast<EventBlock*>(call.workspace);
  const int64_t count = list_blocks(a.at, blocks);
  float* sums = reinterpret_cast<float*>(static_cast<char*>(call.workspace) + block_bytes(a.events, a.at.requests));
  call.pool->parallel_for(count, [&](int64_t task, int worker) {
    const EventBlock b = blocks[task];
    float* sum = sums + worker * kBlock * padded(a.width);
    std::memset(sum, 0, static_cast<size_t>(b.events * a.width) * 4);
    for (int64_t c = a.at.candidates[b.request]; c < a.at.candidates[b.request + 1]; ++c)
      row_ops().pair_pool_dx(w, e, dy, dw, c, b.event, b.events, pair_row(a.at, b.request, c, b.event), a.width, sum);
    row_ops().copy({sum, false}, 0, 0, de, b.event * a.width, 0, 1, b.events * a.width);
  });
}

}  // namespace longer::cpu
