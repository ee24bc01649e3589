// Every operation that the device has, on random shapes, types and values, against the reference: forward ops and gradients,
// empty and one-row cases among them. A table of makers; an operation without one fails.
#include <cstdlib>
#include <functional>
#include <map>

#include "kernels/dense_kernels.h"
#include "kernels/embedding_kernels.h"
#include "simt/attention_cases.h"
#include "simt/op_case.h"
#include "simt/pages_cases.h"
#include "simt/rows_cases.h"
#include "simt/subject.h"
#include "simt/training_cases.h"

using namespace longer;
using simt::Dice;
using simt::OpCase;

namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16, f64 = DType::f64;

struct Maker {
  void (*reference)(const Call&);
  std::function<void(OpCase&, Dice&)> make;
  double roundings = 2.05, accumulated = 2e-6;
};

// Ins and outs of one shape, each of its own type.
Maker pointwise(void (*reference)(const Call&), int ins, int outs, std::function<std::vector<double>(Dice&)> attributes = nullptr) {
  return {reference, [=](OpCase& c, Dice& d) {
            const int64_t rows = d.rows(), width = d.width();
            for (int i = 0; i < ins; ++i) c.in(d.type(), {rows, width}, -3, 3);
            for (int i = 0; i < outs; ++i) c.out(d.type(), {rows, width});
            if (attributes) c.attributes(attributes(d));
          }};
}

std::vector<double> any_activation(Dice& d) { return {static_cast<double>(d.whole(0, 5))}; }

// Rows and widths on both sides of a tile, and such that chunks of 16 bytes cannot read.
struct Product {
  int64_t rows, inner, columns;
};
Product product(Dice& d) {
  return {d.size({0, 1, 33, 64, 130}), d.size({1, 16, 40, 64, 72, 130}), d.size({1, 8, 33, 64, 96, 136})};
}

// The activations, then w, whose values are ones that bf16 (and, save the smallest, f16) holds: in a product of those it is rounded as it is read.
void add_factors(OpCase& c, Dice& d, std::vector<int64_t> x, std::vector<int64_t> w) {
  std::vector<double> held = d.numbers(w[0] * w[1], -1, 1);
  for (double& e : held) e = simt::rounded(e, bf16);
  c.in(d.type(), std::move(x), -1, 1).in(d.type(), std::move(w), held);
}

void linear(OpCase& c, Dice& d) {
  const Product p = product(d);
  add_factors(c, d, {p.rows, p.inner}, {p.inner, p.columns});
  d.coin() ? c.in(f32, {p.columns}, -1, 1) : c.in_absent();
  d.coin() ? c.in(d.type(), {p.rows, p.columns}, -1, 1) : c.in_absent();
  c.out(d.type(), {p.rows, p.columns});
  d.coin() ? c.out(d.type(), {p.rows, p.columns}) : c.out_absent();
  c.attributes(any_activation(d));
}

void linear_dx(OpCase& c, Dice& d) {
  const Product p = product(d);
  add_factors(c, d, {p.rows, p.inner}, {p.columns, p.inner});
  d.coin() ? c.in(d.type(), {p.rows, p.columns}, -1, 1) : c.in_absent();
  d.coin() ? c.in(d.type(), {p.rows, p.columns}, -1, 1) : c.in_absent();
  c.out(d.type(), {p.rows, p.columns}).attributes(any_activation(d));
}

void linear_dw(OpCase& c, Dice& d) {
  const Product p = product(d);
  const int64_t rows = d.coin() ? p.rows : d.size({700});
  c.in(d.type(), {rows, p.inner}, -1, 1).in(d.type(), {rows, p.columns}, -1, 1).out(f32, {p.inner, p.columns});
  d.coin() ? c.out(f32, {p.columns}) : c.out_absent();
}

void dropout(OpCase& c, Dice& d) {
  const int64_t rows = d.rows(), width = d.width();
  c.in(d.type(), {rows, width}, -1, 1).in(d.whole_list(2, -1000000, 1000000)).out(d.type(), {rows, width});
  c.attributes({d.one_of({0.0, 0.1, 0.9}), static_cast<double>(d.whole(0, int64_t{1} << 40))}).first_row(d.whole(0, 5000000000));
}

// A field's ids: one a row, or pooled lists of them. Returns the pooling.
double add_ids(OpCase& c, Dice& d, int64_t rows, int64_t most) {
  const double pooling = static_cast<double>(d.whole(0, 2));
  if (pooling == 0) {
    c.in(d.whole_list(rows, -1, most)).in_absent();
    return pooling;
  }
  std::vector<int32_t> offsets = d.offsets(rows, 30);
  c.in(d.whole_list(offsets.back(), -1, most)).in(offsets);
  return pooling;
}

void embed(OpCase& c, Dice& d) {
  const int64_t rows = d.rows(), fields = d.whole(0, 5), whole = d.one_of<int64_t>({40, 72, 133});
  std::vector<double> attributes{static_cast<double>(fields)};
  for (int64_t f = 0; f < fields; ++f) {
    const int64_t width = d.one_of<int64_t>({1, 8, 16, 21}), table = d.whole(1, 50);
    c.in(f32, {table, width}, -1, 1);
    const double pooling = add_ids(c, d, rows, table - 1);
    attributes.push_back(static_cast<double>(d.coin() ? d.whole(0, whole - width) : d.whole(0, (whole - width) / 8) * 8));
    attributes.push_back(pooling);
  }
  c.out(d.type(), {rows, whole}).attributes(attributes);
}

void sparse_grad(OpCase& c, Dice& d) {
  const int64_t uses = d.whole(1, d.most(4, 2)), width = d.one_of<int64_t>({1, 8, 20}), most = d.one_of<int64_t>({2, 40, 100000});
  std::vector<double> attributes{static_cast<double>(uses)};
  int64_t ids = 0;
  for (int64_t u = 0; u < uses; ++u) {
    const int64_t rows = d.size({0, 1, 30, d.most(400, 40)}), columns = width + d.one_of<int64_t>({0, 8, 11});
    const double pooling = add_ids(c, d, rows, most);
    ids += c.size_of_input(static_cast<int>(3 * u));
    attributes.push_back(static_cast<double>(d.coin() ? 0 : columns - width));
    attributes.push_back(pooling);
    c.in(d.type(), {rows, columns}, -1, 1);
  }
  c.out(DType::i32, {ids}).out(f32, {ids, width}).out(DType::i32, {1}).attributes(attributes).counted_by(2);
}

void time_bucket(OpCase& c, Dice& d) {
  const int64_t requests = d.whole(0, 5), boundaries = d.one_of<int64_t>({0, 1, 31});
  const std::vector<int32_t> offsets = d.offsets(requests);
  std::vector<double> at = d.numbers(boundaries, 0, 100), events = d.numbers(offsets.back(), 0, 100);
  std::sort(at.begin(), at.end());
  const std::vector<double> now = d.numbers(requests, 40, 120);
  if (requests > 0 && offsets.back() > 0 && boundaries > 0) at[0] = 0, events[0] = 1000;  // the future counts as now
  c.in(f64, {offsets.back()}, events).in(f64, {requests}, now).in(offsets).in(f64, {boundaries}, at).out(DType::i32, {offsets.back()});
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> table = {
      {"linear", {reference::linear, linear}},
      {"linear_dx", {reference::linear_dx, linear_dx}},
      {"linear_dw", {reference::linear_dw, linear_dw}},
      {"activation", pointwise(reference::activation, 1, 1, any_activation)},
      {"activation_dx", pointwise(reference::activation_dx, 2, 1, any_activation)},
      {"add", {reference::add, [](OpCase& c, Dice& d) {
         const int64_t rows = d.rows(), width = d.width();
         for (int64_t i = d.whole(2, 8); i > 0; --i) c.in(d.type(), {rows, width}, -1, 1);
         c.out(d.type(), {rows, width});
       }}},
      {"swiglu", {reference::swiglu, [](OpCase& c, Dice& d) {
         const int64_t rows = d.rows(), width = d.width();
         c.in(d.type(), {rows, 2 * width}, -3, 3).out(d.type(), {rows, width});
       }}},
      {"swiglu_dx", {reference::swiglu_dx, [](OpCase& c, Dice& d) {
         const int64_t rows = d.rows(), width = d.width();
         c.in(d.type(), {rows, 2 * width}, -3, 3).in(d.type(), {rows, width}, -1, 1).out(d.type(), {rows, 2 * width});
       }}},
      {"gate", pointwise(reference::gate, 2, 1)},
      {"gate_dx", pointwise(reference::gate_dx, 3, 2)},
      {"dropout", {reference::dropout, dropout}},
      {"cast", pointwise(reference::cast, 1, 1)},
      {"gather_rows", {reference::gather_rows, [](OpCase& c, Dice& d) { simt::gather(c, d, false); }}},
      {"gather_rows_dx", {reference::gather_rows_dx, [](OpCase& c, Dice& d) { simt::gather(c, d, true); }}},
      {"write_rows", {reference::write_rows, simt::write_rows}},
      {"write_quantised_rows", {reference::write_quantised_rows, simt::write_quantised_rows}},
      {"merge", {reference::merge, [](OpCase& c, Dice& d) { simt::merge(c, d, false); }}},
      {"merge_dx", {reference::merge_dx, [](OpCase& c, Dice& d) { simt::merge(c, d, true); }}},
      {"segment_pool", {reference::segment_pool, [](OpCase& c, Dice& d) { simt::pool(c, d, false); }}},
      {"segment_pool_dx", {reference::segment_pool_dx, [](OpCase& c, Dice& d) { simt::pool(c, d, true); }}},
      {"concat", {reference::concat, [](OpCase& c, Dice& d) { simt::concat(c, d, false); }}},
      {"concat_dx", {reference::concat_dx, [](OpCase& c, Dice& d) { simt::concat(c, d, true); }}},
      {"pair_features", {reference::pair_features, [](OpCase& c, Dice& d) { simt::pairs(c, d, false, false); }}},
      {"pair_features_dx", {reference::pair_features_dx, [](OpCase& c, Dice& d) { simt::pairs(c, d, true, false); }}},
      {"pair_pool", {reference::pair_pool, [](OpCase& c, Dice& d) { simt::pairs(c, d, false, true); }}},
      {"pair_pool_dx", {reference::pair_pool_dx, [](OpCase& c, Dice& d) { simt::pairs(c, d, true, true); }}},
      {"attention", {reference::attention, [](OpCase& c, Dice& d) { simt::attention_case(c, d, false); }, 3, 3e-6}},
      {"attention_dx", {reference::attention_dx, [](OpCase& c, Dice& d) { simt::attention_case(c, d, true); }, 3, 3e-6}},
      {"candidate_attention_dx", {reference::candidate_attention_dx, [](OpCase& c, Dice& d) { simt::candidate_attention_case(c, d, true); }, 3, 3e-6}},
      {"candidate_attention", {reference::candidate_attention, [](OpCase& c, Dice& d) { simt::candidate_attention_case(c, d, false); }, 3, 3e-6}},
      {"group_attention", {reference::group_attention, [](OpCase& c, Dice& d) { simt::group_attention_case(c, d, false); }, 3, 3e-6}},
      {"group_attention_dx", {reference::group_attention_dx, [](OpCase& c, Dice& d) { simt::group_attention_case(c, d, true); }, 3, 6e-6}},  // of few keys, what cancels is much
      {"inner_transformer", {reference::inner_transformer, [](OpCase& c, Dice& d) { simt::inner_transformer_case(c, d, false); }, 3, 3e-6}},
      {"inner_transformer_dx", {reference::inner_transformer_dx, [](OpCase& c, Dice& d) { simt::inner_transformer_case(c, d, true); }, 8, 3e-6}},
      {"paged_attention", {reference::paged_attention, simt::paged_attention_case, 3, 3e-6}},
      {"paged_candidate_attention", {reference::paged_candidate_attention, simt::paged_candidate_attention_case, 3, 3e-6}},
      {"attention_probabilities", {reference::attention_probabilities, simt::probabilities_case, 0, 3e-6}},
      {"candidate_attention_probabilities", {reference::candidate_attention_probabilities, simt::candidate_probabilities_case, 0, 3e-6}},
      {"embed", {reference::embed, embed}},
      {"sparse_grad", {reference::sparse_grad, sparse_grad}},
      {"time_bucket", {reference::time_bucket, time_bucket}},
      {"rowwise_adagrad", {reference::rowwise_adagrad, [](OpCase& c, Dice& d) { simt::sparse_step(c, d, 0); }}},
      {"sparse_adagrad", {reference::sparse_adagrad, [](OpCase& c, Dice& d) { simt::sparse_step(c, d, 1); }}},
      {"sparse_adam", {reference::sparse_adam, [](OpCase& c, Dice& d) { simt::sparse_step(c, d, 2); }}},
      {"bce", {reference::bce, [](OpCase& c, Dice& d) { simt::bce(c, d, false); }}},
      {"bce_dx", {reference::bce_dx, [](OpCase& c, Dice& d) { simt::bce(c, d, true); }}},
      {"sum_squares", {reference::sum_squares, simt::sum_squares, 0, 1e-12}},
      {"clip_scale", {reference::clip_scale, simt::clip_scale}},
      {"update_loss_scale", {reference::update_loss_scale, simt::update_loss_scale}},
      {"adamw", {reference::adamw, [](OpCase& c, Dice& d) { simt::dense_step(c, d, {0.9, 0.999, 1e-8}); }}},
      {"rmsprop", {reference::rmsprop, [](OpCase& c, Dice& d) { simt::dense_step(c, d, {0.99, 1e-8, 0.9}); }}},
      {"accumulate", {reference::accumulate, [](OpCase& c, Dice& d) {
         const int64_t rows = d.rows(), width = d.width();
         c.in(d.type(), {rows, width}, -1, 1).in_place(f32, {rows, width}, -1, 1);
       }}},
      {"ema", {reference::ema, [](OpCase& c, Dice& d) {
         const int64_t size = d.size({0, 1, 1001});
         c.in(f32, {size}, -1, 1);
         simt::add_rates(c, d);
         c.in_place(f32, {size}, -1, 1);
       }}},
  };
  return table;
}

// A product by mma.sync costs its multiplications and no more, reads each operand once a tile, and its shared tiles have no bank
// conflicts. (The other kernel: wgmma_gemm_test.)
void product_cost(Device& device) {
  simt::options().architecture = 80;
  const auto measure = [&](OpCase c, const char* what) {
    simt::counters() = {};
    c.run_device(device);
    simt::expect(simt::counters().mma_flops == int64_t{2} * 128 * 64 * 96, std::string(what) + " multiplies more than its matrices");
    simt::expect(simt::counters().bank_conflicts == 0, std::string(what) + " has bank conflicts");
    simt::expect(simt::counters().global_read_bytes == 2 * (128 * 96 + 2 * 96 * 64), std::string(what) + " reads more than a tile's operands");
  };
  for (const DType type : {bf16, f16}) {
    measure(OpCase("linear", reference::linear, 1).in(type, {128, 96}, -1, 1).in(type, {96, 64}, -1, 1).out(type, {128, 64}).attributes({0}), "linear");
    measure(OpCase("linear_dx", reference::linear_dx, 1).in(type, {128, 96}, -1, 1).in(type, {64, 96}, -1, 1).out(type, {128, 64}).attributes({0}), "linear_dx");
    measure(OpCase("linear_dw", reference::linear_dw, 1).in(type, {96, 128}, -1, 1).in(type, {96, 64}, -1, 1).out(f32, {128, 64}), "linear_dw");
  }
  simt::options().architecture = 90;
}

// What a row gets does not depend on the others of its tile: a candidate among others, and alone, has the same bits.
void candidate_alone(Device& device, DType type, int64_t m) {
  constexpr int64_t kCandidates = 40, kKeys = 70, kWidth = 32;
  Dice dice(5);
  const std::vector<double> own = dice.numbers(kCandidates * m * kWidth, -2, 2), shared = dice.numbers(kKeys * kWidth, -2, 2);
  const auto run = [&](int64_t first, int64_t count) {
    const std::vector<double> mine(own.begin() + first * m * kWidth, own.begin() + (first + count) * m * kWidth);
    OpCase c("candidate_attention", reference::candidate_attention, 1);
    for (int i = 0; i < 3; ++i) c.in(type, {count * m, kWidth}, mine);
    for (int i = 0; i < 2; ++i) c.in(type, {kKeys, kWidth}, shared);
    c.in({0, static_cast<int32_t>(count)}).in({0, kKeys}).out(type, {count * m, kWidth}).out(f32, {count * m, 2}).attributes({2, 0.25, static_cast<double>(m)});
    c.run_device(device);
    return std::make_pair(c.result(0), c.result(1));
  };
  const auto all = run(0, kCandidates);
  bool same = true;
  for (int64_t i = 0; i < kCandidates; i += 3) {
    const auto one = run(i, 1);
    same = same && std::equal(one.first.begin(), one.first.end(), all.first.begin() + i * m * kWidth);
    same = same && std::equal(one.second.begin(), one.second.end(), all.second.begin() + i * m * 2);
  }
  simt::expect(same, "a candidate of " + std::to_string(m) + " rows depends on the others");
}

// Attention multiplies the tiles that are seen and no others, and its tiles have no bank conflicts.
void attention_cost(Device& device) {
  std::vector<int32_t> limits(128);
  for (int32_t i = 0; i < 128; ++i) limits[i] = 64 + i + 1;  // the last 128 rows of 192 keys
  OpCase c("attention", reference::attention, 1);
  c.in(bf16, {128, 64}, -1, 1).in(bf16, {192, 64}, -1, 1).in(bf16, {192, 64}, -1, 1).in({0, 128}).in({0, 192}).in(limits);
  c.out(bf16, {128, 64}).out(f32, {128, 1}).attributes({1, 0.125});
  simt::counters() = {};
  c.run_device(device);
  simt::expect(simt::counters().mma_flops == int64_t{4} * 64 * 64 * 64 * (2 + 3), "attention multiplies tiles that no row sees");
  simt::expect(simt::counters().bank_conflicts == 0, "attention has bank conflicts");
}

// With tf32 a product of f32 is one of TF32 numbers: it costs a third, is as exact as f32 where its factors are such numbers, and else errs by
// their rounding.
void tf32_products(Device& device) {
  const auto shorten = [](std::vector<double> values) {
    for (double& v : values) v = static_cast<double>(__uint_as_float(__float_as_uint(static_cast<float>(v)) & 0xffffe000u));
    return values;
  };
  const auto flops_of = [&](OpCase& c, double least, double most, const std::string& what) {
    c.run_reference();
    simt::counters() = {};
    c.run_device(device);
    for (int i = 0; i < c.outputs(); ++i) simt::expect(c.error(i) <= most, what + ": error " + std::to_string(c.error(i)) + ", allowed " + std::to_string(most));
    simt::expect(c.error(0) >= least, what + " multiplies more than TF32: error " + std::to_string(c.error(0)));
    return simt::counters().mma_flops;
  };
  for (const bool held : {true, false}) {
    Dice dice(7);
    const std::vector<double> a = dice.numbers(100 * 64, -1, 1), b = dice.numbers(64 * 64, -1, 1);
    const auto linear_of = [&] {
      return OpCase("linear", reference::linear, 1).in(f32, {100, 64}, held ? shorten(a) : a).in(f32, {64, 64}, held ? shorten(b) : b).out(f32, {100, 64}).attributes({0});
    };
    const auto attention_of = [&] {
      OpCase c("attention", reference::attention, 1);
      const std::vector<double> q = shorten(dice.numbers(70 * 32, -1, 1));
      for (int i = 0; i < 3; ++i) c.in(f32, {70, 32}, held && i < 2 ? q : dice.numbers(70 * 32, -1, 1));
      return c.in({0, 70}).in({0, 70}).in(std::vector<int32_t>(70, 70)).out(f32, {70, 32}).out(f32, {70, 1}).attributes({1, 0.5});
    };
    OpCase exact = linear_of(), fast = linear_of();
    const std::string of = held ? " of TF32 numbers" : " of f32 numbers";
    const int64_t whole = flops_of(exact, 0, 2e-6, "a product" + of), third = flops_of(fast.tf32(), held ? 0 : 2e-5, held ? 2e-6 : 1e-3, "a TF32 product" + of);
    simt::expect(!simt::emulated || whole == 3 * third, "a TF32 product costs a third");
    OpCase attention = attention_of(), short_attention = attention_of();
    const int64_t scores = flops_of(attention, 0, 3e-6, "attention" + of), fewer = flops_of(short_attention.tf32(), 2e-6, 2e-3, "attention by TF32" + of);
    simt::expect(!simt::emulated || scores == 3 * fewer, "attention by TF32 costs a third");
  }
}

// More tiles than all blocks of inner_transformer take in a round.
void many_tiles(Device& device, bool backward) {
  simt::InnerForm f{bf16, 16, 2, 4, false, false, {0}};
  for (int i = 0; i < 1100; ++i) f.events.push_back(f.events.back() + i % 3);
  OpCase c(backward ? "inner_transformer_dx" : "inner_transformer", backward ? reference::inner_transformer_dx : reference::inner_transformer, 1);
  Dice dice(9);
  simt::add_inner_transformer(c, dice, backward, f);
  c.check(device, backward ? 8 : 3, 3e-6);
  c.check_same_bits(device, simt::Schedule::reverse);
}

// Two pages of 16 keys, as these tables name them.
OpCase paged_case(const std::vector<int32_t>& table, const std::vector<double>& span) {
  OpCase c("paged_attention", reference::paged_attention, 1);
  c.in(f32, {3, 8}, -1, 1).in(f32, {32, 8}, -1, 1).in(f32, {32, 8}, -1, 1).in(table).in({0, 1}).in({0, 3}).in(DType::i32, {1, 2}, span).in({30, 1, 30});
  c.out(f32, {3, 8}).out_absent().attributes({1, 1, 16});
  return c;
}

// Ids and indices past the end are neither read nor written there, and are told.
void faults(Device& device) {
  const auto told = [&](OpCase c, const char* what) {
    c.run_device(device);
    simt::expect(c.fault() == 7, std::string(what) + " is not told");
  };
  told(OpCase("gather_rows", reference::gather_rows, 1).in({0, 5}).in(f32, {5, 8}, -1, 1).out(f32, {2, 8}), "an index past the sources");
  told(OpCase("gather_rows_dx", reference::gather_rows_dx, 1).in({5, 2}).in(f32, {2, 8}, -1, 1).out(f32, {5, 8}), "an index past the gradients");
  told(OpCase("embed", reference::embed, 1).in(f32, {5, 8}, -1, 1).in({5}).in_absent().out(f32, {1, 8}).attributes({1, 0, 0}), "an id past its table");
  told(OpCase("write_rows", reference::write_rows, 1).in({2, 3}).in(f32, {2, 8}, -1, 1).in_place(f32, {3, 8}, -1, 1), "a place past the rows");
  told(OpCase("write_rows", reference::write_rows, 1).in({-1}).in(bf16, {1, 8}, -1, 1).in_place(f32, {3, 8}, -1, 1), "a place before the rows");
  told(OpCase("write_quantised_rows", reference::write_quantised_rows, 1).in({3, 2}).in(f16, {2, 8}, -1, 1).in_place(DType::i32, {3, 4}, -9, 9).attributes({2}), "a place past the rows in int8");
  told(OpCase("write_quantised_rows", reference::write_quantised_rows, 1).in({-1}).in(f32, {1, 8}, -1, 1).in_place(DType::i32, {3, 4}, -9, 9).attributes({2}), "a place before the rows in int8");
  told(OpCase("attention_probabilities", reference::attention_probabilities, 1).in(f32, {2, 8}, -1, 1).in(f32, {5, 8}, -1, 1).in({0, 2}).in({0, 5}).in({5, 5})
           .out(f32, {2, 4}).attributes({1, 1}), "a row that sees more keys than there are columns");
  told(paged_case({0, 2}, {0, 20}), "a page past its pool");
  told(paged_case({-1, 1}, {0, 20}), "a page before its pool");
  told(paged_case({0, 1}, {10, 23}), "a span past its table");
  told(paged_case({0, 1}, {-1, 3}), "a span before its table");
  told(paged_case({0, 1}, {0, -1}), "a span of fewer keys than none");
  told(OpCase("merge", reference::merge, 1).in(f32, {5, 8}, -1, 1).in({0, 5}).in({0, 2}).out(f32, {2, 16}).attributes({2}), "a group too few");
  told(OpCase("rowwise_adagrad", reference::rowwise_adagrad, 1).in({3}).in(f32, {1, 8}, -1, 1).in({1}).in(f32, {8}, 0, 1).in(f32, {1}, 1, 1)
           .in_place(f32, {3, 8}, -1, 1).in_place(f32, {3}, 0, 1).attributes({1e-8}), "a row past the table");
}

}  // namespace

int main(int count, char** arguments) {
  auto device = simt::open_subject();
  const std::string only = count > 1 && std::string(arguments[1]) != "all" ? arguments[1] : "";  // ops_test [OPERATION|all] [ROUNDS]
  const bool watched = std::string(SIMT_TIER) == "tsan";  // races are seen whatever the schedule
  const int rounds = count > 2 ? std::atoi(arguments[2]) : !simt::emulated ? 40 : std::string(SIMT_TIER) == "plain" ? 8 : std::string(SIMT_TIER) == "asan" ? 4 : 3;
  for (const std::string& name : cuda::device_op_names()) {
    if ((!only.empty() && name != only) || name == "norm" || name == "norm_dx") continue;  // norm_test
    if (watched && (name == "gather_rows_dx" || name == "sparse_grad")) {  // they sort: 65,536 threads scan the counts of a pass
      std::printf("not for this tier: %s\n", name.c_str());
      continue;
    }
    const auto found = makers().find(name);
    if (found == makers().end()) {
      simt::expect(false, name + " has no maker of cases");
      continue;
    }
    const bool product = simt::emulated && name.rfind("linear", 0) == 0;  // each case by both kernels
    for (int run = 0; run < (product ? 2 : 1) * rounds; ++run) {
      const int round = run % rounds;
      simt::options().schedule = simt::Schedule::random;
      simt::options().seed = 100 + round;
      simt::options().architecture = run < rounds ? 90 : 80;
      OpCase c(name, found->second.reference, 17 * round + 1);
      Dice dice(1000 * round + name.size(), watched);
      found->second.make(c, dice);
      c.check(*device, found->second.roundings, found->second.accumulated);
      if (!watched) c.check_same_bits(*device, round % 2 ? simt::Schedule::reverse : simt::Schedule::forward);
    }
  }
  simt::options().architecture = 90;
  if (only.empty()) faults(*device);
  if (simt::emulated && (only.empty() || only == "linear")) product_cost(*device);
  if (simt::emulated && (only.empty() || only == "attention")) attention_cost(*device);
  if (!watched && (only.empty() || only == "linear")) tf32_products(*device);
  if (!watched && (only.empty() || only == "candidate_attention"))
    for (const DType type : {f32, bf16, f16})
      for (const int64_t m : {1, 2, 3, 5}) candidate_alone(*device, type, m);
  for (const bool backward : {false, true})
    if (!watched && (only.empty() || only == (backward ? "inner_transformer_dx" : "inner_transformer"))) many_tiles(*device, backward);
  if (!watched && (only.empty() || only == "paged_attention"))
    for (const DType type : {f32, bf16, f16})
      for (const int64_t page_rows : {1, 48, 64}) simt::pages_alike(*device, type, page_rows);
  if (!watched && (only.empty() || only == "paged_attention")) simt::int8_alike(*device);
  return simt::report("ops_test " SIMT_TIER);
}
