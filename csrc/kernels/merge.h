// merge: K adjacent events become one row of K*d, groups aligned at the newest event. A request's merged rows are its
// event rows end to end behind the zeros that fill its groups up (a request without events may have a group too).
// merge_dx: the same the other way; what stands in the place of the zeros is dropped.
#pragma once
#include "kernels/dense_check.h"

namespace longer {

struct MergeArgs {
  Tensor events, merged;  // or their gradients
  Tensor event_offsets, group_offsets;
  int64_t requests, group, width;

  int64_t first_event(int64_t r) const { return event_offsets.i32()[r]; }
  // Zero rows in front of a request's events; with too few groups an error.
  int64_t missing(int64_t r) const {
    const int64_t events_here = event_offsets.i32()[r + 1] - first_event(r);
    const int64_t places = (group_offsets.i32()[r + 1] - int64_t{group_offsets.i32()[r]}) * group;
    if (places < events_here)
      throw std::runtime_error("merge: request " + std::to_string(r) + " has " + std::to_string(events_here) +
                               " events and places for " + std::to_string(places));
    return places - events_here;
  }
};

inline MergeArgs merge_args(const Call& call, bool backward) {
  const DenseCheck check(backward ? "merge_dx" : "merge", call);
  check.counts(3, 3, 1, 1, 1);
  MergeArgs a{backward ? call.output(0) : call.input(0), backward ? call.input(0) : call.output(0), call.input(1), call.input(2),
              0, call.integer(0), 0};
  check.require(a.group > 0, "K must be at least 1");
  a.width = a.events.cols();
  check.matrix(a.events, a.events.rows(), a.width, "the events have a wrong type");
  check.matrix(a.merged, a.merged.rows(), a.group * a.width, "a merged row must be K times as wide as an event");
  a.requests = check.offsets(a.event_offsets, "event_offsets must be i32");
  check.indices(a.group_offsets, a.requests + 1, "group_offsets differ from event_offsets in length");
  return a;
}

}  // namespace longer
