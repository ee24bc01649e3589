// Linear layers of 8,192 rows, epilogue included, against the multiply-add peak and against oneDNN and libxsmm where their
// development packages are installed. Forward with bias and residual, forward with bias and GELU, dx and dw.
#include "op_call.h"
#include "peak.h"
#include "peers.h"

using namespace bench;
using longer::DType;

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  longer::ThreadPool pool(options.threads);
  const Precision precision = options.bf16 ? Precision::bf16 : Precision::f32;
  const DType type = options.bf16 ? DType::bf16 : DType::f32;
  const int64_t rows = 8192;
  const std::vector<int64_t> sizes = {128, 256, 512, 1024};
  const double burst = peak_burst(precision, pool, kBurst);
  const Contestant peak{"peak", burst, [&] { peak_burst(precision, pool, kBurst); }};

  for (const int64_t inner : sizes)
    for (const int64_t outer : sizes) {
      const bool typical = (inner == 256 || inner == 1024) && (outer == 256 || outer == 1024) && inner + outer < 2048;
      if (options.quick && !typical && !(inner == 128 && outer == 128)) continue;
      const double scale = 1 / std::sqrt(static_cast<double>(inner)), flops = 2.0 * rows * inner * outer;
      Buffer x(type, {rows, inner}, 1), w(type, {inner, outer}, scale), bias(DType::f32, {outer}, 1), residual(type, {rows, outer}, 1);
      Buffer y(type, {rows, outer}), dy(type, {rows, outer}, 1), dx(type, {rows, inner}), dw(DType::f32, {inner, outer}), db(DType::f32, {outer});
      const longer::Tensor none;
      const auto report = [&](const char* pass, const std::vector<Contestant>& contestants) {
        print_race(std::string("\"pass\":\"") + pass + "\",\"precision\":\"" + (options.bf16 ? "bf16" : "f32") + "\",\"inner\":" +
                       std::to_string(inner) + ",\"outer\":" + std::to_string(outer),
                   race(contestants, options.seconds));
      };

      for (const bool gelu : {false, true}) {
        OpCall ours("linear", {x.tensor, w.tensor, bias.tensor, gelu ? none : residual.tensor}, {y.tensor, none}, {gelu ? 1.0 : 0.0}, pool);
        std::vector<Contestant> contestants{peak, {"longer", flops, [&] { ours(); }}};
        const LinearProblem problem{x.tensor, w.tensor, bias.tensor, residual.tensor, gelu, &pool};
        std::vector<std::unique_ptr<PeerLinear>> peers = peer_linears(problem);
        ours();
        for (const auto& peer : peers) {
          contestants.push_back({peer->name(), flops, [&peer] { peer->run(); }});
          peer->run();
          if (peer->difference(y.tensor) > (options.bf16 ? 0.05 : 1e-3)) {
            std::fprintf(stderr, "%s computes something else at %ld x %ld\n", peer->name(), static_cast<long>(inner), static_cast<long>(outer));
            return 1;
          }
        }
        report(gelu ? "forward gelu" : "forward residual", contestants);
      }
      OpCall backward_x("linear_dx", {dy.tensor, w.tensor, none, none}, {dx.tensor}, {0}, pool);
      OpCall backward_w("linear_dw", {x.tensor, dy.tensor}, {dw.tensor, db.tensor}, {}, pool);
      report("backward", {peak, {"dx", flops, [&] { backward_x(); }}, {"dw", flops, [&] { backward_w(); }},
                          {"longer", 2 * flops, [&] { backward_x(); backward_w(); }}});
    }
  return 0;
}
