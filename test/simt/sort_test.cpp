// The device's sort against std::stable_sort: tiles, warps and digits at their edges, and more tiles than a warp has lanes.
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/sort.h"
#include "simt/check.h"
#include "simt/random.h"
#include "simt/subject.h"

using namespace longer;

namespace {

void sorts(Device& device, int64_t count, int bits, uint32_t most) {
  simt::Random random(static_cast<uint64_t>(count) + most);
  std::vector<uint32_t> keys(static_cast<size_t>(count)), numbers(keys.size());
  for (uint32_t& k : keys) k = static_cast<uint32_t>(random() % (uint64_t{most} + 1));
  std::iota(numbers.begin(), numbers.end(), 0u);
  std::vector<uint32_t> want = numbers;
  std::stable_sort(want.begin(), want.end(), [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; });

  const int64_t bytes = count * static_cast<int64_t>(sizeof(uint32_t));
  const cuda::KeyedNumbers given{static_cast<uint32_t*>(device.allocate(bytes)), static_cast<uint32_t*>(device.allocate(bytes))};
  void* memory = device.allocate(cuda::sort_bytes(count));
  const Stream stream = device.create_stream();
  device.copy_in(given.keys, keys.data(), bytes, stream);
  device.copy_in(given.numbers, numbers.data(), bytes, stream);
  const cuda::KeyedNumbers sorted = cuda::sort(stream, given, count, bits, memory);
  std::vector<uint32_t> found(keys.size()), at(keys.size());
  device.copy_out(found.data(), sorted.keys, bytes, stream);
  device.copy_out(at.data(), sorted.numbers, bytes, stream);
  device.synchronize(stream);
  device.destroy(stream);
  bool right = at == want;
  for (size_t i = 0; i < want.size(); ++i) right = right && found[i] == keys[want[i]];
  simt::expect(right, std::to_string(count) + " keys up to " + std::to_string(most));
  for (void* m : {static_cast<void*>(given.keys), static_cast<void*>(given.numbers), memory}) device.release(m);
}

}  // namespace

int main() {
  const std::unique_ptr<Device> device = simt::open_subject();
  for (const int64_t count : {0, 1, 33, 2049, 5000}) {
    sorts(*device, count, 8, 2);
    sorts(*device, count, 32, 0xffffffffu);
  }
  sorts(*device, 2048 * 33 + 1, 16, 999);
  return simt::report("sort_test");
}
