// Trials of planted bugs: kernels with one mistake each, run under several schedules. A trial is a process of its own. Every
// mistake must be caught in the tiers named beside it; in a tier that is not named it is run, and listed as one that the tier
// cannot be relied on to see. Correct kernels must never be accused.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "simt/check.h"
#include "simt/machine.h"

extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "exitcode=66"; }
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() { return "detect_leaks=0:abort_on_error=0:exitcode=77"; }

namespace simt {

enum Tier { plain = 1, asan = 2, tsan = 4, every = 7 };

struct Planted {
  const char* name;
  std::function<bool()> run;  // is the result right?
  int caught_in;              // tiers that must see it; 0: a correct kernel, which none may accuse
};

// 0 right, 1 wrong, 2 told by the machine, anything else by a sanitizer
inline int trial(const std::function<bool()>& run, Schedule schedule, uint64_t seed) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!std::getenv("SIMT_SHOW")) (void)!std::freopen("/dev/null", "w", stderr);
    options().schedule = schedule, options().seed = seed;
    int code = 0;
    try {
      code = run() ? 0 : 1;
    } catch (const Failure& failure) {
      std::fprintf(stderr, "%s\n", failure.what());
      code = 2;
    }
    std::exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

// Those whose name contains `only`.
inline int report_planted(const char* test, const std::vector<Planted>& list, const char* only) {
  const int tier = !std::strcmp(SIMT_TIER, "plain") ? plain : !std::strcmp(SIMT_TIER, "asan") ? asan : tsan;
  const int randoms = tier == plain ? 8 : 3;
  std::printf("%-52s  forward reverse random   (R right, W wrong result, D diagnosed, S sanitizer)\n", "planted bug, " SIMT_TIER);
  std::vector<const char*> unseen;
  for (const Planted& planted : list) {
    if (!std::strstr(planted.name, only)) continue;
    const auto letter = [](int code) { return code == 0 ? 'R' : code == 1 ? 'W' : code == 2 ? 'D' : 'S'; };
    std::string seen{letter(trial(planted.run, Schedule::forward, 1)), letter(trial(planted.run, Schedule::reverse, 1))};
    for (int i = 1; i <= randoms; ++i) seen += letter(trial(planted.run, Schedule::random, i));
    std::printf("%-52s  %c       %c       %s\n", planted.name, seen[0], seen[1], seen.substr(2).c_str());
    const bool caught = seen.find_first_not_of('R') != std::string::npos;
    if (planted.caught_in == 0) expect(!caught, std::string(planted.name) + " is accused");
    else if (planted.caught_in & tier) expect(caught, std::string(planted.name) + " was not noticed");
    else unseen.push_back(planted.name);
  }
  for (const char* name : unseen) std::printf("not for this tier, not counted: %s\n", name);
  return report(test);
}

}  // namespace simt
