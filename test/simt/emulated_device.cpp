#include "simt/emulated_device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/gpu.h"
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

struct Captured {
  std::vector<Item> items;
  std::vector<const void*> touches;
};

struct EmulatedStream {
  std::deque<Item> queue;
  std::unique_ptr<Captured> captured;  // while it is
  std::string broken;                  // what was done meanwhile that may not be
};

thread_local EmulatedStream* capturing = nullptr;  // by this thread

longer::Error illegal(const std::string& what) { return {"ERR_DEVICE", "the capture of a stream failed: " + what}; }

// Of what a thread may not do while it captures.
void not_while_capturing(const char* what) {
  if (!capturing) return;
  capturing->broken = what;
  throw illegal(what);
}

// Runtimes have threads of their own, the machine is one: whoever queues, waits or gives memory back holds it.
std::recursive_mutex machine;
using Hold = std::lock_guard<std::recursive_mutex>;

std::vector<EmulatedStream*> streams;

EmulatedStream* of(longer::Stream stream) { return static_cast<EmulatedStream*>(stream.handle); }
EmulatedEvent* of(longer::Event event) { return static_cast<EmulatedEvent*>(event.handle); }

bool can_run(const EmulatedStream& stream) {
  return !stream.queue.empty() && (!stream.queue.front().wait || stream.queue.front().wait->happened >= stream.queue.front().until);
}

// The first work of any stream that can go; false where none can.
bool run_one(Random& order_of_streams) {
  std::vector<EmulatedStream*> ready;
  for (EmulatedStream* s : streams)
    if (can_run(*s)) ready.push_back(s);
  if (ready.empty()) return false;
  EmulatedStream* next = ready[order_of_streams() % ready.size()];
  const Item item = std::move(next->queue.front());
  next->queue.pop_front();
  if (item.work) item.work();
  return true;
}

// Runs work of all streams until `stream` (nullptr: every stream) is empty.
void run_queued(EmulatedStream* stream) {
  Random order_of_streams(options().seed);
  while (!stream || !stream->queue.empty())
    if (!run_one(order_of_streams)) break;
  for (const EmulatedStream* s : streams)
    if (!s->queue.empty() && (!stream || s == stream)) throw Failure("a stream waits for an event that never happens");
}

template <class Run>
void while_held(Run&& run) {
  const Hold hold(machine);
  try {
    run();
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

bool captured(longer::Stream stream) { return stream.handle && of(stream)->captured; }

void queue_work(longer::Stream stream, std::function<void()> work, const std::vector<const void*>& touches = {}) {
  if (!stream.handle) not_while_capturing("it used the default stream");
  const Hold hold(machine);
  check_context();
  if (captured(stream)) {
    if (capturing != of(stream)) throw illegal("another thread queued work on it");
    Captured& into = *of(stream)->captured;
    into.items.push_back({std::move(work), nullptr, 0});
    into.touches.insert(into.touches.end(), touches.begin(), touches.end());
  } else if (stream.handle) of(stream)->queue.push_back({std::move(work), nullptr, 0});
  else work();
}

void drain(EmulatedStream* stream) {
  not_while_capturing("it waited for the device");
  while_held([&] { run_queued(stream); });
}

// Blocks of memory, to the byte: ASan sees what lies outside.
class Blocks {
 public:
  void* allocate(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, static_cast<size_t>(bytes)) != 0) throw longer::memory_error("the machine has no " + std::to_string(bytes) + " bytes");
    std::memset(memory, 0xff, static_cast<size_t>(bytes));
    blocks_[static_cast<const char*>(memory)] = bytes;
    return memory;
  }
  int64_t release(void* memory) {  // how many bytes it had; null: none
    const auto at = blocks_.find(static_cast<const char*>(memory));
    if (at == blocks_.end()) return 0;
    const int64_t bytes = at->second;
    blocks_.erase(at);
    std::free(memory);
    return bytes;
  }
  bool holds(const void* address) const {
    auto after = blocks_.upper_bound(static_cast<const char*>(address));
    if (after == blocks_.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second;
  }

 private:
  std::map<const char*, int64_t> blocks_;
};


class EmulatedDevice : public longer::Device {
 public:
  EmulatedDevice() : capacity_(asked_for("LONGER_EMULATED_MEMORY", int64_t{64} << 20)) {
    const Hold hold(machine);
    lost.clear();
    launches_left = asked_for("LONGER_EMULATED_LAUNCHES", INT64_MAX);
  }

  longer::DeviceInfo info() const override { return {"emulated on the CPU", longer::current_gpu().processors, longer::current_gpu().architecture, capacity_, 227 * 1024}; }
  int64_t available() const override {
    const Hold hold(machine);
    check_context();
    return capacity_ - use_.allocated;
  }

  void* allocate(int64_t bytes) override {
    if (bytes == 0) return nullptr;
    not_while_capturing("it allocated memory");
    const Hold hold(machine);
    check_context();
    if (bytes < 0 || bytes > capacity_ - use_.allocated)
      throw longer::memory_error("the emulated device has no " + std::to_string(bytes) + " bytes, " + std::to_string(use_.allocated) + " are in use");
    use_.allocated += bytes;
    return memory_.allocate(bytes);
  }
  void release(void* memory) override {
    const Hold hold(machine);
    drain(nullptr);
    use_.allocated -= memory_.release(memory);
  }
  void* allocate_host(int64_t bytes) override {
    if (bytes == 0) return nullptr;
    not_while_capturing("it allocated memory");
    const Hold hold(machine);
    return pinned_.allocate(bytes);
  }
  void release_host(void* memory) override {
    const Hold hold(machine);
    drain(nullptr);
    pinned_.release(memory);
  }

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
    const Hold hold(machine);
    expect_pinned(host, bytes, stream);
    move(device, host, bytes, stream);
    use_.copied_in += bytes;
  }
  void copy_out(void* host, const void* device, int64_t bytes, longer::Stream stream) override {
    const Hold hold(machine);
    expect_pinned(host, bytes, stream);
    move(host, device, bytes, stream);
    use_.copied_out += bytes;
  }
  void copy(void* to, const void* from, int64_t bytes, longer::Stream stream) override { move(to, from, bytes, stream); }
  void fill(void* device, int byte, int64_t bytes, longer::Stream stream) override {
    if (bytes) queue_work(stream, [=] { std::memset(device, byte, static_cast<size_t>(bytes)); }, {device});
  }

  longer::Event create_event() override { return {new EmulatedEvent}; }
  void destroy(longer::Event event) override {
    drain(nullptr);
    delete of(event);
  }
  void record(longer::Event event, longer::Stream stream) override {
    not_while_capturing("it used an event");
    const Hold hold(machine);
    EmulatedEvent* e = of(event);
    const int64_t turn = ++e->recorded;
    queue_work(stream, [=] { e->happened = turn; });
  }
  void wait(longer::Stream stream, longer::Event event) override {
    not_while_capturing("it used an event");
    const Hold hold(machine);
    if (of(stream)) of(stream)->queue.push_back({nullptr, of(event), of(event)->recorded});
    else drain(nullptr);
  }
  bool happened(longer::Event event) override {
    not_while_capturing("it used an event");
    const Hold hold(machine);
    check_context();
    while_held([] {
      static Random order_of_streams(options().seed);
      run_one(order_of_streams);  // so that whoever asks again and again gets there
    });
    return of(event)->happened >= of(event)->recorded;
  }

  void begin_capture(longer::Stream stream) override {
    not_while_capturing("another was begun");
    const Hold hold(machine);
    if (!of(stream) || of(stream)->captured) throw illegal("it is the default stream, or captured already");
    capturing = of(stream);
    capturing->captured = std::make_unique<Captured>();
    capturing->broken.clear();
  }
  longer::CapturedGraph end_capture(longer::Stream stream) override {
    const Hold hold(machine);
    if (!of(stream) || capturing != of(stream)) throw illegal("this thread captures no such stream");
    capturing = nullptr;
    std::unique_ptr<Captured> captured = std::move(of(stream)->captured);
    if (!of(stream)->broken.empty()) throw illegal(of(stream)->broken);
    const auto elsewhere = [&](const void* p) { return !memory_.holds(p) && !pinned_.holds(p); };
    captured->touches.erase(std::remove_if(captured->touches.begin(), captured->touches.end(), elsewhere), captured->touches.end());
    return {captured.release()};
  }
  void launch(longer::CapturedGraph graph, longer::Stream stream) override {
    const Hold hold(machine);
    const Captured& captured = *static_cast<Captured*>(graph.handle);
    for (const void* p : captured.touches)
      if (!memory_.holds(p) && !pinned_.holds(p)) throw longer::Error("ERR_DEVICE", "a graph is launched after memory that it uses was released");
    ++use_.graph_launches;
    for (const Item& item : captured.items) queue_work(stream, item.work);
  }
  void destroy(longer::CapturedGraph graph) override {
    const Hold hold(machine);
    delete static_cast<Captured*>(graph.handle);
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
  const int64_t capacity_;
  longer::DeviceUse use_;
  Blocks memory_, pinned_;

  void expect_pinned(const void* host, int64_t bytes, longer::Stream stream) const {
    if (bytes && of(stream) && of(stream)->captured && !pinned_.holds(host)) not_while_capturing("it copied from or to memory that is not pinned");
  }

  static void move(void* to, const void* from, int64_t bytes, longer::Stream stream) {
    if (bytes) queue_work(stream, [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); }, {to, from});
  }
};

}  // namespace

void enqueue(longer::Stream stream, std::function<void()> work, const std::vector<const void*>& touches) {
  queue_work(stream, [work = std::move(work)] {
    spend_launch();
    work();
  }, touches);
}

bool is_captured(longer::Stream stream) { return captured(stream); }

std::unique_ptr<longer::Device> open_emulated_device() { return std::make_unique<EmulatedDevice>(); }

}  // namespace simt

namespace longer {

Gpu current_gpu() {
  const int architecture = std::min(simt::options().architecture, asked_architecture());
  return {architecture, 4, architecture == 90};
}

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
