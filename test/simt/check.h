// Counting checks for the emulator's tests.
#pragma once
#include <cstdio>
#include <string>

namespace simt {

inline int passed = 0, failed = 0;

inline void expect(bool holds, const std::string& what) {
  if (holds) { ++passed; return; }
  if (++failed <= 30) std::printf("FAIL %s\n", what.c_str());
}

inline int report(const char* name) {
  std::printf("%s: %d passed, %d failed\n", name, passed, failed);
  return failed ? 1 : 0;
}

}  // namespace simt
