// The tests of test/simt on hardware. Exit status 2 where no GPU can be used.
#include "simt/subject.h"

#include <cstdio>
#include <cstdlib>

#include "runtime/error.h"

namespace simt {

const bool emulated = false;

std::unique_ptr<longer::Device> open_subject() {
  try {
    return longer::open_device("cuda:0");
  } catch (const longer::Error& error) {
    std::printf("%s; nothing was run\n", error.what());
    std::exit(2);
  }
}

}  // namespace simt
