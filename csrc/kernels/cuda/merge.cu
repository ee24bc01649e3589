// merge and merge_dx (kernels/merge.h): a merged row is K places of an event's width each.
#include "kernels/merge.h"

#include "kernels/cuda/pointwise.cuh"

namespace longer::cuda {

namespace {

struct Places {
  const int32_t *events, *groups;
  int64_t requests, group;

  // Places of zeros in front of a request's events; negative where the groups are too few.
  __device__ int64_t missing(int64_t r) const {
    return (int64_t{groups[r + 1]} - groups[r]) * group - (int64_t{events[r + 1]} - events[r]);
  }
};

struct Forward {
  Places at;
  Values events, merged;
  int width;
  bool vector;
  int32_t *fault, code;
  __device__ void operator()(int64_t place, const RowTeam& team) const {
    const int64_t r = segment_of(at.groups, at.requests, place / at.group), missing = at.missing(r);
    const int64_t event = place - at.groups[r] * at.group - missing;
    if (missing < 0) report(fault, code);
    copy_row(merged, place * width, events, (at.events[r] + event) * width, width, missing >= 0 && event >= 0, vector, team);
  }
};

struct Backward {
  Places at;
  Values events, merged;
  int width;
  bool vector;
  int32_t *fault, code;
  __device__ void operator()(int64_t event, const RowTeam& team) const {
    const int64_t r = segment_of(at.events, at.requests, event), missing = at.missing(r);
    const int64_t place = at.groups[r] * at.group + missing + event - at.events[r];
    if (missing < 0) report(fault, code);
    copy_row(events, event * width, merged, place * width, width, missing >= 0, vector, team);
  }
};

template <class Op>
void run(const Call& call, const Queue& queue, const char* name, bool backward) {
  const MergeArgs a = merge_args(call, backward);
  const Values events = values(name, a.events), merged = values(name, a.merged);
  const Places at{vector_of<int32_t>(name, a.event_offsets), vector_of<int32_t>(name, a.group_offsets), a.requests, a.group};
  if (a.requests == 0) return;
  each_row(queue, name, backward ? a.events.rows() : a.merged.rows() * a.group, a.width,
           Op{at, events, merged, narrow(name, a.width), packs_aligned(events, a.width) && packs_aligned(merged, a.width), queue.fault, queue.code});
}

}  // namespace

void merge(const Call& call, const Queue& queue) { run<Forward>(call, queue, "merge", false); }
void merge_dx(const Call& call, const Queue& queue) { run<Backward>(call, queue, "merge_dx", true); }

}  // namespace longer::cuda
