// What the measuring programs share: options, a race between contestants, one JSON line a figure.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace bench {

struct Options {
  int threads = 1;
  double seconds = 0.4;  // for one race
  bool quick = false;    // fewer shapes
  bool bf16 = false;
};

inline Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--quick") o.quick = true;
    else if (name == "--bf16") o.bf16 = true;
    else if (name == "--threads" && i + 1 < argc) o.threads = std::atoi(argv[++i]);
    else if (name == "--seconds" && i + 1 < argc) o.seconds = std::atof(argv[++i]);
    else {
      std::fprintf(stderr, "usage: %s [--threads N] [--seconds S] [--bf16] [--quick]\n", argv[0]);
      std::exit(2);
    }
  }
  return o;
}

struct Contestant {
  std::string name;
  double flops;  // of one run
  std::function<void()> run;
};

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Result {
  std::string name;
  double seconds;  // median of one run
  double gflops;   // at that time
  double to_first; // median over the rounds of (own rate / the first contestant's rate in the same round)
};

// Runs all contestants in turn, round after round, for about `seconds` (3 rounds at least, after one that is not counted):
// what slows the machine for a while slows them all.
inline std::vector<Result> race(const std::vector<Contestant>& contestants, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
  std::vector<std::vector<double>> times(contestants.size());
  const auto start = Clock::now();
  for (int round = 0; round < 4 || (since(start) < seconds && round < 1000); ++round)
    for (size_t i = 0; i < contestants.size(); ++i) {
      const auto t = Clock::now();
      contestants[i].run();
      if (round > 0) times[i].push_back(since(t));
    }
  std::vector<Result> results;
  for (size_t i = 0; i < contestants.size(); ++i) {
    std::vector<double> ratios;
    for (size_t r = 0; r < times[i].size(); ++r)
      ratios.push_back((contestants[i].flops / times[i][r]) / (contestants[0].flops / times[0][r]));
    const double typical = median(times[i]);
    results.push_back({contestants[i].name, typical, contestants[i].flops / typical / 1e9, median(ratios)});
  }
  return results;
}

// {"<key>": "<text>", ..., "results": [...]}; `fields` is JSON without braces.
inline void print_race(const std::string& fields, const std::vector<Result>& results) {
  std::printf("{%s,\"results\":[", fields.c_str());
  for (size_t i = 0; i < results.size(); ++i)
    std::printf("%s{\"name\":\"%s\",\"seconds\":%.9g,\"gflops\":%.6g,\"toFirst\":%.6g}", i ? "," : "", results[i].name.c_str(),
                results[i].seconds, results[i].gflops, results[i].to_first);
  std::printf("]}\n");
  std::fflush(stdout);
}

}  // namespace bench
