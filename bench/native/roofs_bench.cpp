// Roofs of the machine: multiply-adds in f32 and bf16, the rate of a copy far larger than the caches, and that of reading again
// and again what a score of one candidate reads.
#include "measure.h"
#include "peak.h"
#include "runtime/arena.h"
#include "runtime/cpu_features.h"

#include <atomic>

using namespace bench;

namespace {

// Sums 64-byte lines; as many chains as hide the latency of an addition.
int64_t read_all(const int64_t* from, int64_t count) {
  int64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += from[i + j];
  int64_t sum = 0;
  for (const int64_t s : sums) sum += s;
  return sum;
}

}  // namespace

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
  constexpr int64_t kScoreBytes = int64_t{10} << 20;
  longer::MemoryBlock weights(kScoreBytes);
  std::memset(weights.data(), 1, static_cast<size_t>(kScoreBytes));
  std::atomic<int64_t> sink{0};
  const double read = best_rate([&] {
    const int64_t share = kScoreBytes / 8 / pool.size();
    pool.parallel_for(pool.size(), [&](int64_t t, int) { sink += read_all(static_cast<const int64_t*>(weights.data()) + t * share, share); });
    return static_cast<double>(kScoreBytes);
  });
  std::printf("{\"isa\":\"%s\",\"threads\":%d,\"f32\":%.6g,\"bf16\":%.6g,\"copy\":%.6g,\"read\":%.6g}\n", isa, options.threads, f32, bf16, copy, read);
  return 0;
}
