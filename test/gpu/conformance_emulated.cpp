// The emulator's side of conformance.h.
#include "gpu/conformance_kernels.cuh"

namespace conformance {

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const Entry& e : kEntries) list.push_back(e.about);
  return list;
}

std::vector<uint32_t> run_emulated(int index, const std::vector<uint32_t>& in) {
  const Entry& entry = kEntries[index];
  const auto device = simt::open_emulated_device();
  const longer::Stream stream = device->create_stream();
  std::vector<uint32_t> out(static_cast<size_t>(entry.about.out), 0xffffffffu);
  simt::options().schedule = simt::Schedule::forward;  // block 1 of `order` waits for block 0
  entry.run({in.data(), out.data()}, stream);
  device->synchronize(stream);
  device->destroy(stream);
  return out;
}

}  // namespace conformance
