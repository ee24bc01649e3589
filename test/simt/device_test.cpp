// The seam of the device: what a capture may hold, what makes it fail, and that a graph does what was captured; and the search for
// NaN and Inf there against that of the host.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels/cuda/kernels.h"
#include "plan/finite.h"
#include "runtime/device_memory.h"
#include "runtime/error.h"
#include "runtime/staging.h"
#include "runtime/thread_pool.h"
#include "simt/check.h"
#include "simt/emulated_device.h"
#include "simt/machine.h"
#include "simt/random.h"

using namespace longer;
using simt::expect;

namespace {

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void a_graph_does_what_was_captured(const std::shared_ptr<Device>& device) {
  const Stream stream = device->create_stream();
  Staging staging(device);
  staging.reserve(8);
  DeviceMemory memory(device, 8);
  int32_t* host = reinterpret_cast<int32_t*>(staging.host());
  device->begin_capture(stream);
  device->copy_in(memory.data(), staging.host(), 4, stream);
  device->copy(static_cast<char*>(memory.data()) + 4, memory.data(), 4, stream);
  device->copy_out(staging.host() + 4, static_cast<char*>(memory.data()) + 4, 4, stream);
  const CapturedGraph graph = device->end_capture(stream);
  host[0] = 1, host[1] = 0;
  device->synchronize(stream);
  expect(host[1] == 0, "what is captured does not run");
  for (const int32_t value : {5, 6}) {
    host[0] = value;
    device->launch(graph, stream);
    device->synchronize(stream);
    expect(host[1] == value, "a graph runs as often as it is launched");
  }
  expect(device->use().graph_launches == 2, "launches are counted");
  memory.release();
  expect(error_of([&] { device->launch(graph, stream); }) == "a graph is launched after memory that it uses was released", "released memory");
  device->destroy(graph);
  device->destroy(stream);
}

void what_a_capture_may_not_hold(const std::shared_ptr<Device>& device) {
  const Stream stream = device->create_stream(), other = device->create_stream();
  const Event event = device->create_event();
  DeviceMemory memory(device, 8);
  int32_t pageable = 0;
  const std::vector<std::pair<const char*, std::function<void()>>> cases = {
      {"it waited for the device", [&] { device->synchronize(stream); }},
      {"it waited for the device", [&] { device->synchronize(other); }},
      {"it waited for the device", [&] { device->release(memory.data()); }},
      {"it allocated memory", [&] { device->allocate(8); }},
      {"it allocated memory", [&] { device->allocate_host(8); }},
      {"it used the default stream", [&] { device->fill(memory.data(), 0, 8, {}); }},
      {"it used an event", [&] { device->wait(stream, event); }},
      {"it used an event", [&] { device->happened(event); }},
      {"another was begun", [&] { device->begin_capture(other); }},
      {"it copied from or to memory that is not pinned", [&] { device->copy_in(memory.data(), &pageable, 4, stream); }},
  };
  for (const auto& [what, body] : cases) {
    const std::string message = std::string("the capture of a stream failed: ") + what;
    device->begin_capture(stream);
    expect(error_of(body) == message, message);
    expect(error_of([&] { device->end_capture(stream); }) == message, "and ends so");
  }
  expect(error_of([&] { device->begin_capture({}); }).find("default stream") != std::string::npos, "the default stream");
  device->destroy(event);
  device->destroy(other);
  device->destroy(stream);
}

void events_happen(const std::shared_ptr<Device>& device) {
  const Stream stream = device->create_stream();
  const Event event = device->create_event();
  DeviceMemory memory(device, 4);
  expect(device->happened(event), "an event that was never recorded");
  device->fill(memory.data(), 1, 4, stream);
  device->record(event, stream);
  int asked = 1;
  while (!device->happened(event)) ++asked;
  expect(asked > 1 && *static_cast<char*>(memory.data()) == 1, "not before what it stands for");
  device->destroy(event);
  device->destroy(stream);
}

// What each type of number calls NaN or Inf, at every place of a tensor and only in what is defined.
void non_finite_as_on_the_host(const std::shared_ptr<Device>& device) {
  simt::Random random(7);
  ThreadPool pool(1);
  DeviceMemory word(device, 4);
  const Op ops[] = {{"add", nullptr, nullptr, nullptr}, {"attention", nullptr, nullptr, nullptr}, {"sparse_grad", nullptr, nullptr, nullptr}};
  int bad = 0, good = 0;
  for (int round = 0; round < 400; ++round) {
    const Op& op = ops[random() % 3];
    const int64_t rows = static_cast<int64_t>(random() % 40), width = 1 + static_cast<int64_t>(random() % 33);
    std::vector<std::vector<uint8_t>> data(3);
    Tensor tensors[3];
    for (int i = 0; i < 3; ++i) {
      Tensor& t = tensors[i];
      const bool count = !std::strcmp(op.name, "sparse_grad") && i != 1;
      t.dtype = count ? DType::i32 : !std::strcmp(op.name, "attention") && i == 1 ? DType::f32 : static_cast<DType>(random() % 3);
      t.rank = 2, t.dim[0] = count && i == 2 ? 1 : rows, t.dim[1] = count && i == 2 ? 1 : width;
      data[static_cast<size_t>(i)].resize(static_cast<size_t>(t.bytes()));
      t.data = data[static_cast<size_t>(i)].data();
      for (int64_t e = 0; e < t.size(); ++e) {
        if (t.dtype == DType::i32) t.i32()[e] = i == 2 ? static_cast<int32_t>(random() % static_cast<uint64_t>(rows + 1)) : -1;
        else if (t.dtype == DType::bf16) t.bf16()[e] = 0x3f80;
        else if (t.dtype == DType::f64) t.f64()[e] = 1e300;
        else t.f32()[e] = -3e38f;
      }
      if (t.dtype == DType::i32 || t.size() == 0 || random() % 3) continue;
      const int64_t at = static_cast<int64_t>(random() % static_cast<uint64_t>(t.size()));
      const double special = random() % 3 == 0 ? NAN : random() % 2 ? INFINITY : -INFINITY;
      if (t.dtype == DType::bf16) t.bf16()[at] = std::isnan(special) ? 0xffc1 : special > 0 ? 0x7f80 : 0xff80;
      else if (t.dtype == DType::f64) t.f64()[at] = special;
      else t.f32()[at] = static_cast<float>(special);
    }
    Call call;
    call.out = tensors, call.outs = 3, call.pool = &pool;
    const bool finite = outputs_are_finite(op, call);
    std::vector<DeviceMemory> there;
    Tensor moved[3];
    for (int i = 0; i < 3; ++i) {
      there.emplace_back(device, tensors[i].bytes());
      if (tensors[i].bytes()) std::memcpy(there.back().data(), tensors[i].data, static_cast<size_t>(tensors[i].bytes()));
      moved[i] = tensors[i];
      moved[i].data = there.back().data();
    }
    call.out = moved;
    int32_t* found = static_cast<int32_t*>(word.data());
    *found = 3;
    cuda::look_for_non_finite(op.name, call, {}, found, 9);
    expect(*found == (finite ? 3 : 9), std::string(op.name) + ": finite on the host " + std::to_string(finite) + ", the word holds " + std::to_string(*found));
    ++(finite ? good : bad);
  }
  expect(bad > 60 && good > 60, "both are met");
}

}  // namespace

int main() {
  const std::shared_ptr<Device> device = simt::open_emulated_device();
  a_graph_does_what_was_captured(device);
  what_a_capture_may_not_hold(device);
  events_happen(device);
  non_finite_as_on_the_host(device);
  return simt::report("device_test");
}
