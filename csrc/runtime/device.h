// The device that a plan runs on: memory, streams, events. Two back ends: CUDA (kernels/cuda/device.cu) and an emulated
// one (test/simt/emulated_device.cpp) which runs the same kernels on the CPU, in any order that the streams allow. A binary
// has one of the two, or none (kernels/cuda/none.cpp): which one is linked decides. Any thread may call.
// All calls but synchronize, release and the openers return before the work is done. Failures throw Error: ERR_MEMORY where memory
// is out, ERR_DEVICE_LOST once a failure has ended the device's work for this process, ERR_DEVICE for everything else.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace longer {

struct Stream {
  void* handle = nullptr;  // null: the default stream
};
struct Event {
  void* handle = nullptr;
};

// Work that was captured from a stream, to be launched as one.
struct CapturedGraph {
  void* handle = nullptr;
};

struct DeviceInfo {
  std::string name;
  int processors = 0;         // streaming multiprocessors
  int architecture = 0;       // 80, 90, 100...
  int64_t memory = 0;         // bytes
  int64_t shared_memory = 0;  // bytes a block may ask for
};

struct DeviceUse {
  int64_t copied_in = 0, copied_out = 0;  // bytes between it and the host since it was opened; not those of captured copies
  int64_t allocated = 0;                  // bytes on it now
  int64_t graph_launches = 0;             // since it was opened
};

class Device {
 public:
  virtual ~Device() = default;

  virtual DeviceInfo info() const = 0;
  virtual int64_t available() const = 0;  // bytes that could be allocated now

  virtual void* allocate(int64_t bytes) = 0;  // aligned to 256 bytes, contents undefined; nullptr for 0 bytes
  virtual void release(void* memory) = 0;     // after everything that was queued has run
  virtual void* allocate_host(int64_t bytes) = 0;  // pinned: copies from and to it run beside kernels
  virtual void release_host(void* memory) = 0;

  virtual Stream create_stream() = 0;
  virtual void destroy(Stream stream) = 0;
  virtual void copy_in(void* device, const void* host, int64_t bytes, Stream stream) = 0;  // host stays as it is until it ran
  virtual void copy_out(void* host, const void* device, int64_t bytes, Stream stream) = 0;
  virtual void copy(void* to, const void* from, int64_t bytes, Stream stream) = 0;
  virtual void fill(void* device, int byte, int64_t bytes, Stream stream) = 0;

  virtual Event create_event() = 0;
  virtual void destroy(Event event) = 0;
  virtual void record(Event event, Stream stream) = 0;  // the event happens when all that was queued before has run
  virtual void wait(Stream stream, Event event) = 0;    // what is queued after runs after the event's last record
  virtual bool happened(Event event) = 0;               // its last record; waits for nothing

  // What this thread queues on the stream (not the default one) between the two is not run but captured, with the addresses that it has.
  // Meanwhile this thread may not wait, allocate, release, or use the default stream or events; copies from and to the host are of
  // pinned memory. Where it does, end_capture throws; it must be called even then.
  virtual void begin_capture(Stream stream) = 0;
  virtual CapturedGraph end_capture(Stream stream) = 0;
  // The memory that it was captured with must be there. Launches of one graph run one after another.
  virtual void launch(CapturedGraph graph, Stream stream) = 0;
  virtual void destroy(CapturedGraph graph) = 0;

  virtual void synchronize(Stream stream) = 0;

  virtual DeviceUse use() const = 0;
};

// 'cuda:<index>' or 'emulated'. Throws the errors of usable_gpu (cuda_state.h) where this binary or machine has no such device.
std::unique_ptr<Device> open_device(const std::string& name);
// The same, one for all who name it at the same time, so that what one runtime has on it another can use.
std::shared_ptr<Device> shared_device(const std::string& name);

}  // namespace longer
