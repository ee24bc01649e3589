// Roofs of the machine: multiply-adds in f32 and bf16, and the rate of a copy far larger than the caches.
#include "measure.h"
#include "peak.h"
#include "runtime/arena.h"
#include "runtime/cpu_features.h"

using namespace bench;

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  longer::ThreadPool pool(options.threads);
  const char* isa = longer::isa_name(longer::active_isa());

  const auto best_rate = [&](const std::function<double()>& work) {
    using Clock = std::chrono::steady_clock;
    double best = 0;
    const auto start = Clock::now();
    do {
      const auto t = Clock::now();
      const double units = work();
      best = std::max(best, units / std::chrono::duration<double>(Clock::now() - t).count());
    } while (std::chrono::duration<double>(Clock::now() - start).count() < options.seconds);
    return best / 1e9;
  };

  const double f32 = best_rate([&] { return peak_burst(Precision::f32, pool, 20 * kBurst); });
  const double bf16 = peak_burst(Precision::bf16, pool, kBurst) > 0 ? best_rate([&] { return peak_burst(Precision::bf16, pool, 20 * kBurst); }) : 0;

  double copy = 0;
  if (!options.quick) {
    const int64_t bytes = int64_t{128} << 20;
    longer::MemoryBlock from(bytes), to(bytes);
    std::memset(from.data(), 1, static_cast<size_t>(bytes));
    std::memset(to.data(), 2, static_cast<size_t>(bytes));
    const int64_t pieces = pool.size() * 8;
    copy = best_rate([&] {
      pool.parallel_for(pieces, [&](int64_t t, int) {
        const int64_t size = bytes / pieces;
        std::memcpy(static_cast<char*>(to.data()) + t * size, static_cast<const char*>(from.data()) + t * size, static_cast<size_t>(size));
      });
      return 2.0 * static_cast<double>(bytes);
    });
  }
  std::printf("{\"isa\":\"%s\",\"threads\":%d,\"f32\":%.6g,\"bf16\":%.6g,\"copy\":%.6g}\n", isa, options.threads, f32, bf16, copy);
  return 0;
}
