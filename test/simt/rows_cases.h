// Random cases of the operations on rows.
#pragma once
#include <algorithm>

#include "kernels/rows_kernels.h"
#include "simt/dice.h"
#include "simt/op_case.h"

namespace simt {

inline void pairs(OpCase& c, Dice& d, bool backward, bool pool) {
  const int64_t requests = d.whole(0, 4), width = d.width();
  const std::vector<int32_t> candidates = d.offsets(requests, d.most(70, 20)), events = d.offsets(requests, d.most(70, 20));
  std::vector<int32_t> at{0};
  for (int64_t r = 0; r < requests; ++r) at.push_back(at.back() + (candidates[r + 1] - candidates[r]) * (events[r + 1] - events[r]));
  if (pool) c.in(d.type(), {at.back(), 1}, -1, 1);
  else c.in(d.type(), {candidates.back(), width}, -1, 1);
  c.in(d.type(), {events.back(), width}, -1, 1);
  if (backward && pool) c.in(d.type(), {candidates.back(), width}, -1, 1);
  if (backward && !pool) c.in(d.type(), {at.back(), 4 * width}, -1, 1);
  c.in(candidates).in(events).in(at);
  if (!backward && pool) c.out(d.type(), {candidates.back(), width});
  if (!backward && !pool) c.out(d.type(), {at.back(), 4 * width});
  if (!backward) return;
  if (pool) c.out(d.type(), {at.back(), 1});
  else c.out(d.type(), {candidates.back(), width});
  c.out(d.type(), {events.back(), width});
}

inline void gather(OpCase& c, Dice& d, bool backward) {
  const int64_t rows = d.size({0, 1, 40, 500}), width = d.one_of<int64_t>({3, 8, 40});
  std::vector<int64_t> sources;
  int64_t all = 0;
  for (int64_t s = d.whole(1, d.most(8, 3)); s > 0; --s) sources.push_back(d.rows()), all += sources.back();
  std::vector<int32_t> index = d.whole_list(rows, -1, all - 1);
  if (all > 0 && d.coin())
    for (int64_t i = 0; i < rows; i += d.whole(1, 3)) index[i] = static_cast<int32_t>(all / 2);  // one row many times
  c.in(index);
  if (backward) c.in(d.type(), {rows, width}, -1, 1);
  for (const int64_t n : sources) backward ? c.out(d.type(), {n, width}) : c.in(d.type(), {n, width}, -1, 1);
  if (!backward) c.out(d.type(), {rows, width});
}

// Of 701 rows, no one twice.
inline std::vector<int32_t> any_places(Dice& d) {
  std::vector<int32_t> places = d.whole_list(d.one_of<int64_t>({0, 1, 40, 500}), 0, 700);
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  if (d.coin()) std::reverse(places.begin(), places.end());
  return places;
}

inline void write_rows(OpCase& c, Dice& d) {
  const int64_t width = d.width();
  const std::vector<int32_t> places = any_places(d);
  c.in(places).in(d.type(), {static_cast<int64_t>(places.size()), width}, -1, 1).in_place(d.type(), {701, width}, -1, 1);
}

inline void merge(OpCase& c, Dice& d, bool backward) {
  const int64_t requests = d.whole(0, 5), group = d.one_of<int64_t>({1, 2, 4, 5}), width = d.width();
  const std::vector<int32_t> events = d.offsets(requests, 40);
  std::vector<int32_t> groups{0};
  for (int64_t r = 0; r < requests; ++r)
    groups.push_back(groups.back() + static_cast<int32_t>((events[r + 1] - events[r] + group - 1) / group + d.whole(0, 1)));
  if (backward) c.in(d.type(), {groups.back(), group * width}, -1, 1);
  else c.in(d.type(), {events.back(), width}, -1, 1);
  c.in(events).in(groups).attributes({static_cast<double>(group)});
  if (backward) c.out(d.type(), {events.back(), width});
  else c.out(d.type(), {groups.back(), group * width});
}

inline void pool(OpCase& c, Dice& d, bool backward) {
  const int64_t segments = d.whole(0, 6), width = d.width();
  const std::vector<int32_t> offsets = d.offsets(segments, 700);
  c.in(d.type(), {backward ? segments : offsets.back(), width}, -1, 1).in(offsets);
  c.out(d.type(), {backward ? offsets.back() : segments, width}).attributes({static_cast<double>(d.whole(0, 1))});
}

inline void concat(OpCase& c, Dice& d, bool backward) {
  const int64_t rows = d.rows();
  std::vector<int64_t> widths;
  int64_t sum = 0;
  for (int64_t p = d.whole(1, 16); p > 0; --p) widths.push_back(d.one_of<int64_t>({1, 8, 16, 5, 24})), sum += widths.back();
  if (backward) c.in(d.type(), {rows, sum}, -1, 1);
  for (const int64_t w : widths) backward ? c.out(d.type(), {rows, w}) : c.in(d.type(), {rows, w}, -1, 1);
  if (!backward) c.out(d.type(), {rows, sum});
}

}  // namespace simt
