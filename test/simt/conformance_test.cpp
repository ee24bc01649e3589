// The conformance test of hardware (test/gpu), without hardware: its kernels run on the emulator, what they write depends on what
// they are given, and a word that is not the emulator's is noticed.
#include "gpu/conformance.h"
#include "simt/check.h"

int main() {
  const std::vector<conformance::Case> cases = conformance::cases();
  for (int i = 0; i < static_cast<int>(cases.size()); ++i) {
    const conformance::Case& c = cases[static_cast<size_t>(i)];
    const std::string name = c.name;
    conformance::Words random(77 + static_cast<uint64_t>(i));
    const std::vector<uint32_t> in = random.fill(c.fill, c.in), other = random.fill(c.fill, c.in);
    const std::vector<uint32_t> out = conformance::run_emulated(i, in);
    simt::expect(conformance::differences(c, i, in, out) == 0, name + " is not itself");
    simt::expect(conformance::differences(c, i, in, conformance::run_emulated(i, other)) > 0, name + " does not depend on its input");
    for (const size_t at : {size_t{0}, out.size() / 3}) {
      std::vector<uint32_t> changed = out;
      changed[at] ^= 0x40100;  // of a float less than a thousandth, of halves a bit of the lower one
      simt::expect(conformance::differences(c, i, in, changed) == 1, name + ": a change of one word is not noticed");
    }
    if (c.compare == conformance::Compare::sum) {  // the last bit may be another, a thousandth may not
      std::vector<uint32_t> changed = out;
      for (uint32_t& w : changed) w ^= 1;
      simt::expect(conformance::differences(c, i, in, changed) == 0, name + ": the rounding of a sum is not forgiven");
    }
  }
  return simt::report("conformance_test " SIMT_TIER);
}
