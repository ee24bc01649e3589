// Attention of the cross layer: 32 requests of 108 rows and 250 keys, 4 heads of 64, forward and backward.
//
// `full`: every row sees all 250 keys, so that FLOPs counted are FLOPs done. `causal`: limits as LONGER sets them (8 user-side
// globals see everything, then each row one key more); only visible pairs are counted. Forward is two products a pair, backward five.
#include "op_call.h"
#include "peak.h"

using namespace bench;
using longer::DType;

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  longer::ThreadPool pool(options.threads);
  const Precision precision = options.bf16 ? Precision::bf16 : Precision::f32;
  const DType type = options.bf16 ? DType::bf16 : DType::f32;
  const int64_t requests = 32, rows = 108, keys = 250, heads = 4, width = 256, globals = 8;

  Buffer q(type, {requests * rows, width}, 1), k(type, {requests * keys, width}, 1), v(type, {requests * keys, width}, 1);
  Buffer o(type, {requests * rows, width}), lse(DType::f32, {requests * rows, heads}), gradient(type, {requests * rows, width}, 1);
  Buffer dq(type, {requests * rows, width}), dk(type, {requests * keys, width}), dv(type, {requests * keys, width});
  Buffer q_offsets(DType::i32, {requests + 1}), k_offsets(DType::i32, {requests + 1}), limits(DType::i32, {requests * rows});
  for (int64_t r = 0; r <= requests; ++r) {
    q_offsets.tensor.i32()[r] = static_cast<int32_t>(r * rows);
    k_offsets.tensor.i32()[r] = static_cast<int32_t>(r * keys);
  }
  const std::vector<double> attributes{static_cast<double>(heads), 1 / std::sqrt(64.0)};
  OpCall forward("attention", {q.tensor, k.tensor, v.tensor, q_offsets.tensor, k_offsets.tensor, limits.tensor}, {o.tensor, lse.tensor}, attributes, pool);
  OpCall backward("attention_dx", {q.tensor, k.tensor, v.tensor, o.tensor, lse.tensor, gradient.tensor, q_offsets.tensor, k_offsets.tensor, limits.tensor},
                  {dq.tensor, dk.tensor, dv.tensor}, attributes, pool);

  const double burst = peak_burst(precision, pool, kBurst);
  for (const bool causal : {false, true}) {
    double pairs = 0;
    for (int64_t r = 0; r < requests * rows; ++r) {
      const int64_t row = r % rows;
      const int64_t limit = causal && row >= globals ? keys - rows + row + 1 : keys;
      limits.tensor.i32()[r] = static_cast<int32_t>(limit);
      pairs += static_cast<double>(limit);
    }
    const double product = 2 * pairs * width;
    forward();  // o and lse for the backward pass
    const auto results = race({{"peak", burst, [&] { peak_burst(precision, pool, kBurst); }},
                               {"forward", 2 * product, [&] { forward(); }},
                               {"backward", 5 * product, [&] { backward(); }}},
                              options.seconds);
    print_race(std::string("\"visibility\":\"") + (causal ? "causal" : "full") + "\",\"precision\":\"" + (options.bf16 ? "bf16" : "f32") + "\"", results);
  }
  return 0;
}
