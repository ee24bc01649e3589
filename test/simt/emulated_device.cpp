#include "simt/emulated_device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/cuda/probe.h"
#include "runtime/error.h"
#include "simt/machine.h"
#include "simt/random.h"

namespace simt {

namespace {

struct EmulatedEvent {
  int64_t recorded = 0, happened = 0;  // counts of records queued and run
};

struct Item {
  std::function<void()> work;
  EmulatedEvent* wait = nullptr;
  int64_t until = 0;
};

struct EmulatedStream {
  std::deque<Item> queue;
};

// Runtimes have threads of their own, the machine is one: whoever queues, waits or gives memory back holds it.
std::recursive_mutex machine;
using Hold = std::lock_guard<std::recursive_mutex>;

std::vector<EmulatedStream*> streams;

EmulatedStream* of(longer::Stream stream) { return static_cast<EmulatedStream*>(stream.handle); }
EmulatedEvent* of(longer::Event event) { return static_cast<EmulatedEvent*>(event.handle); }

bool can_run(const EmulatedStream& stream) {
  return !stream.queue.empty() && (!stream.queue.front().wait || stream.queue.front().wait->happened >= stream.queue.front().until);
}

// Runs work of all streams, any stream that can go first, until `stream` (nullptr: every stream) is empty.
void run_queued(EmulatedStream* stream) {
  Random order_of_streams(options().seed);
  std::vector<EmulatedStream*> ready;
  for (;;) {
    if (stream && stream->queue.empty()) return;
    ready.clear();
    for (EmulatedStream* s : streams)
      if (can_run(*s)) ready.push_back(s);
    if (ready.empty()) break;
    EmulatedStream* next = ready[order_of_streams() % ready.size()];
    const Item item = std::move(next->queue.front());
    next->queue.pop_front();
    if (item.work) item.work();
  }
  for (const EmulatedStream* s : streams)
    if (!s->queue.empty() && (!stream || s == stream)) throw Failure("a stream waits for an event that never happens");
}

void drain(EmulatedStream* stream) {
  const Hold hold(machine);
  try {
    run_queued(stream);
  } catch (...) {  // as a context that failed: nothing that was queued runs any more
    for (EmulatedStream* s : streams) s->queue.clear();
    throw;
  }
}

// Failures that a test asks for, when a device is opened: LONGER_EMULATED_MEMORY, the bytes that it has; LONGER_EMULATED_LAUNCHES, the kernels
// after which the next one fails as an illegal address does on a GPU.
int64_t asked_for(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoll(value) : otherwise;
}

int64_t launches_left = INT64_MAX;
std::string lost;  // the failure that ended the device's work

void check_context() {
  if (!lost.empty()) throw longer::device_lost(lost);
}

void spend_launch() {
  if (--launches_left >= 0) return;
  lost = "a failure that a test asked for";
  check_context();
}

void queue_work(longer::Stream stream, std::function<void()> work) {
  const Hold hold(machine);
  check_context();
  if (stream.handle) of(stream)->queue.push_back({std::move(work), nullptr, 0});
  else work();
}

class EmulatedDevice : public longer::Device {
 public:
  EmulatedDevice() : memory_(asked_for("LONGER_EMULATED_MEMORY", int64_t{64} << 20)) {
    const Hold hold(machine);
    lost.clear();
    launches_left = asked_for("LONGER_EMULATED_LAUNCHES", INT64_MAX);
  }

  longer::DeviceInfo info() const override { return {"emulated on the CPU", 4, 90, memory_, 227 * 1024}; }
  int64_t available() const override {
    const Hold hold(machine);
    check_context();
    return memory_ - use_.allocated;
  }

  void* allocate(int64_t bytes) override {
    if (bytes == 0) return nullptr;
    const Hold hold(machine);
    check_context();
    void* memory = nullptr;
    if (bytes < 0 || bytes > memory_ - use_.allocated || posix_memalign(&memory, 256, static_cast<size_t>(bytes)) != 0)
      throw longer::memory_error("the emulated device has no " + std::to_string(bytes) + " bytes, " + std::to_string(use_.allocated) + " are in use");
    std::memset(memory, 0xff, static_cast<size_t>(bytes));  // to the byte: ASan sees what lies outside
    use_.allocated += bytes;
    allocated_[memory] = bytes;
    return memory;
  }
  void release(void* memory) override {
    const Hold hold(machine);
    drain(nullptr);
    const auto at = allocated_.find(memory);
    if (at == allocated_.end()) return;  // null
    use_.allocated -= at->second;
    allocated_.erase(at);
    std::free(memory);
  }
  void* allocate_host(int64_t bytes) override { return allocate(bytes); }
  void release_host(void* memory) override { release(memory); }

  longer::Stream create_stream() override {
    const Hold hold(machine);
    check_context();
    streams.push_back(new EmulatedStream);
    return {streams.back()};
  }
  void destroy(longer::Stream stream) override {
    const Hold hold(machine);
    drain(of(stream));
    for (size_t i = 0; i < streams.size(); ++i)
      if (streams[i] == of(stream)) streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i)), i = streams.size();
    delete of(stream);
  }
  void copy_in(void* device, const void* host, int64_t bytes, longer::Stream stream) override {
    move(device, host, bytes, stream);
    const Hold hold(machine);
    use_.copied_in += bytes;
  }
  void copy_out(void* host, const void* device, int64_t bytes, longer::Stream stream) override {
    move(host, device, bytes, stream);
    const Hold hold(machine);
    use_.copied_out += bytes;
  }
  void copy(void* to, const void* from, int64_t bytes, longer::Stream stream) override { move(to, from, bytes, stream); }
  void fill(void* device, int byte, int64_t bytes, longer::Stream stream) override {
    if (bytes) queue_work(stream, [=] { std::memset(device, byte, static_cast<size_t>(bytes)); });
  }

  longer::Event create_event() override { return {new EmulatedEvent}; }
  void destroy(longer::Event event) override {
    drain(nullptr);
    delete of(event);
  }
  void record(longer::Event event, longer::Stream stream) override {
    const Hold hold(machine);
    EmulatedEvent* e = of(event);
    const int64_t turn = ++e->recorded;
    queue_work(stream, [=] { e->happened = turn; });
  }
  void wait(longer::Stream stream, longer::Event event) override {
    const Hold hold(machine);
    if (of(stream)) of(stream)->queue.push_back({nullptr, of(event), of(event)->recorded});
    else drain(nullptr);
  }
  void synchronize(longer::Stream stream) override {
    const Hold hold(machine);
    check_context();
    drain(of(stream));
  }

  longer::DeviceUse use() const override {
    const Hold hold(machine);
    return use_;
  }

 private:
  const int64_t memory_;
  longer::DeviceUse use_;
  std::map<void*, int64_t> allocated_;

  static void move(void* to, const void* from, int64_t bytes, longer::Stream stream) {
    if (bytes) queue_work(stream, [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }
};

}  // namespace

void enqueue(longer::Stream stream, std::function<void()> work) {
  queue_work(stream, [work = std::move(work)] {
    spend_launch();
    work();
  });
}

std::unique_ptr<longer::Device> open_emulated_device() { return std::make_unique<EmulatedDevice>(); }

}  // namespace simt

namespace longer {

// LONGER_EMULATED_CUDA: what CUDA is to have said of the machine, 'driver,runtime[,architecture of its GPU]', as '0,13000' where no driver is.
CudaState cuda_state() {
  CudaState state;
  state.reason = "this binary has the emulated device in CUDA's place";
  const char* said = std::getenv("LONGER_EMULATED_CUDA");
  if (!said) return state;
  int architecture = 0;
  const int fields = std::sscanf(said, "%d,%d,%d", &state.driver_version, &state.runtime_version, &architecture);
  state.built = true;
  state.device_count = fields == 3;
  if (state.device_count == 0) state.reason = without_gpu(state, "");
  else state.names.push_back("an emulated GPU"), state.architectures.push_back(architecture);
  return state;
}

std::unique_ptr<Device> open_device(const std::string& name) {
  if (name == "emulated") return simt::open_emulated_device();
  const CudaState state = cuda_state();
  if (state.built) usable_gpu(state, name);
  throw Error("ERR_DEVICE", "the device '" + name + "' cannot be used: " + state.reason + ". Use 'emulated' or 'cpu'");
}

}  // namespace longer
