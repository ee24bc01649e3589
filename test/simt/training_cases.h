// Random cases of the training operations: losses, sums of gradients, steps of the optimizers.
#pragma once
#include <algorithm>
#include <cmath>

#include "kernels/training_kernels.h"
#include "simt/dice.h"
#include "simt/op_case.h"

namespace simt {

// hyper and scale, now and then a scale that leaves the step out
inline void add_rates(OpCase& c, Dice& d) {
  c.in(longer::DType::f32, {8}, {0.01, 0.1, 0.05, static_cast<double>(d.whole(1, 400)), 0.99, 0, 0, 0});
  c.in(longer::DType::f32, {1}, std::vector<double>{d.whole(0, 5) ? 0.5 : std::nan("")});
}

inline void sparse_step(OpCase& c, Dice& d, int kind) {
  const int64_t table = d.whole(1, 60), width = d.width(), room = d.rows();
  std::vector<int32_t> rows = d.whole_list(room, 0, table - 1);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  const int32_t count = static_cast<int32_t>(d.whole(0, static_cast<int64_t>(rows.size())));
  rows.resize(static_cast<size_t>(room), -1);
  c.in(rows).in(longer::DType::f32, {room, width}, -1, 1).in(std::vector<int32_t>{count});
  add_rates(c, d);
  c.in_place(longer::DType::f32, {table, width}, -1, 1);
  if (kind == 0) c.in_place(longer::DType::f32, {table}, 0, 1);
  else c.in_place(longer::DType::f32, {table, width}, 0, 1);
  if (kind == 2) c.in_place(longer::DType::f32, {table, width}, 0, 1).in_place(longer::DType::i32, {table}, 0, 900);
  c.attributes(kind == 2 ? std::vector<double>{0.9, 0.999, 1e-8} : std::vector<double>{1e-8});
}

inline void dense_step(OpCase& c, Dice& d, std::vector<double> attributes) {
  const int64_t size = d.size({0, 1, 40, 1001});
  c.in(longer::DType::f32, {size}, -1, 1);
  add_rates(c, d);
  if (d.coin()) c.in(longer::DType::f32, {size}, 0, 1);
  else c.in_absent();
  for (int i = 0; i < 3; ++i) c.in_place(longer::DType::f32, {size}, i ? 0 : -1, 1);
  c.attributes(std::move(attributes));
}

inline void bce(OpCase& c, Dice& d, bool backward) {
  const int64_t rows = d.size({0, 1, 50, 5000}), tasks = d.one_of<int64_t>({1, 2, 70});
  std::vector<double> labels = d.numbers(rows * tasks, 0, 1);
  for (double& l : labels) l = d.whole(0, 4) ? (l < 0.5 ? 0 : 1) : std::nan("");
  c.in(longer::DType::f32, {rows, tasks}, -20, 20).in(longer::DType::f32, {rows, tasks}, labels);
  if (d.coin()) c.in(longer::DType::f32, {rows, tasks}, 0, 2);
  else c.in_absent();
  if (d.coin()) c.in(longer::DType::f32, {tasks}, 1, 90);
  else if (backward) c.in_absent();
  if (backward && d.coin()) c.in(longer::DType::f32, {1}, 1, 70000);
  if (backward) c.out(longer::DType::f32, {rows, tasks});
  else c.out(longer::DType::f32, {1}).out(longer::DType::f32, {tasks});
  c.attributes(d.numbers(tasks, 0, 2));
}

inline void sum_squares(OpCase& c, Dice& d) {
  const int64_t rows = d.size({0, 1, 900}), width = d.width();
  c.in(d.type(), {rows, width}, -1, 1).out(longer::DType::f64, {1});
  if (d.coin()) c.in(std::vector<int32_t>{static_cast<int32_t>(d.whole(0, rows + 3))});
}

inline void clip_scale(OpCase& c, Dice& d) {
  const int64_t sums = d.whole(1, 60);
  for (int64_t i = 0; i < sums; ++i) c.in(longer::DType::f64, {1}, std::vector<double>{d.whole(0, 90) ? d.number(0, 4) : std::nan("")});
  const bool scaled = d.coin();
  if (scaled) c.in(longer::DType::f32, {1}, {std::ldexp(1.0, static_cast<int>(d.whole(0, 24)))});
  c.out(longer::DType::f32, {1}).out(longer::DType::f32, {1});
  c.attributes({d.one_of({0.0, 0.5, 1000.0}), static_cast<double>(d.whole(1, sums)), scaled ? 1.0 : 0.0});
}

inline void update_loss_scale(OpCase& c, Dice& d) {
  c.in(longer::DType::f32, {1}, {d.one_of({1.0, 1e-9, std::nan(""), HUGE_VAL})});
  c.in_place(longer::DType::f32, {1}, 1, 70000).in_place(longer::DType::i32, {1}, 0, 4).attributes({static_cast<double>(d.whole(1, 5))});
}

}  // namespace simt
