#include "runtime/device.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/probe.h"
#include "runtime/error.h"

namespace longer {

namespace {

void check(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) throw cuda_error(error, doing);
}

cudaStream_t of(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }
cudaEvent_t of(Event event) { return static_cast<cudaEvent_t>(event.handle); }

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) { select(); }

  DeviceInfo info() const override {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index_), "asking the GPU for its properties");
    return {properties.name, properties.multiProcessorCount, properties.major * 10 + properties.minor,
            static_cast<int64_t>(properties.totalGlobalMem), static_cast<int64_t>(properties.sharedMemPerBlockOptin)};
  }
  int64_t available() const override {
    select();
    size_t available = 0, all = 0;
    check(cudaMemGetInfo(&available, &all), "asking the GPU for its free memory");
    return static_cast<int64_t>(available);
  }

  void* allocate(int64_t bytes) override {
    if (bytes == 0) return nullptr;
    select();
    void* memory = nullptr;
    const std::string doing = "allocating " + std::to_string(bytes) + " bytes on the GPU";
    check(cudaMalloc(&memory, static_cast<size_t>(bytes)), doing.c_str());
    const Hold hold(mutex_);
    allocated_[memory] = bytes;
    use_.allocated += bytes;
    return memory;
  }
  void release(void* memory) override {
    select();
    {
      const Hold hold(mutex_);
      const auto at = allocated_.find(memory);
      if (at != allocated_.end()) use_.allocated -= at->second, allocated_.erase(at);
    }
    check(cudaFree(memory), "freeing memory of the GPU");
  }
  void* allocate_host(int64_t bytes) override {
    if (bytes == 0) return nullptr;
    select();
    void* memory = nullptr;
    check(cudaMallocHost(&memory, static_cast<size_t>(bytes)), "allocating pinned memory");
    return memory;
  }
  void release_host(void* memory) override { check(cudaFreeHost(memory), "freeing pinned memory"); }

  Stream create_stream() override {
    select();
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return {stream};
  }
  void destroy(Stream stream) override { check(cudaStreamDestroy(of(stream)), "destroying a stream"); }
  void copy_in(void* device, const void* host, int64_t bytes, Stream stream) override {
    move(device, host, bytes, cudaMemcpyHostToDevice, stream);
    const Hold hold(mutex_);
    use_.copied_in += bytes;
  }
  void copy_out(void* host, const void* device, int64_t bytes, Stream stream) override {
    move(host, device, bytes, cudaMemcpyDeviceToHost, stream);
    const Hold hold(mutex_);
    use_.copied_out += bytes;
  }
  void copy(void* to, const void* from, int64_t bytes, Stream stream) override { move(to, from, bytes, cudaMemcpyDeviceToDevice, stream); }
  void fill(void* device, int byte, int64_t bytes, Stream stream) override {
    select();
    if (bytes) check(cudaMemsetAsync(device, byte, static_cast<size_t>(bytes), of(stream)), "filling memory of the GPU");
  }

  Event create_event() override {
    select();
    cudaEvent_t event;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    return {event};
  }
  void destroy(Event event) override { check(cudaEventDestroy(of(event)), "destroying an event"); }
  void record(Event event, Stream stream) override { check(cudaEventRecord(of(event), of(stream)), "recording an event"); }
  void wait(Stream stream, Event event) override { check(cudaStreamWaitEvent(of(stream), of(event), 0), "waiting for an event"); }

  bool happened(Event event) override {
    select();
    const cudaError_t error = cudaEventQuery(of(event));
    if (error == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(error, "running on the GPU");
    return true;
  }

  void begin_capture(Stream stream) override {
    select();
    check(cudaStreamBeginCapture(of(stream), cudaStreamCaptureModeThreadLocal), "capturing a run");
  }
  CapturedGraph end_capture(Stream stream) override {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    check(cudaStreamEndCapture(of(stream), &graph), "capturing a run");
    const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "making a graph of a run");
    return {ready};
  }
  void launch(CapturedGraph graph, Stream stream) override {
    select();
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.handle), of(stream)), "launching a captured run");
    const Hold hold(mutex_);
    ++use_.graph_launches;
  }
  void destroy(CapturedGraph graph) override {
    select();
    check(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph.handle)), "destroying a captured run");
  }

  void synchronize(Stream stream) override { check(cudaStreamSynchronize(of(stream)), "running on the GPU"); }

  DeviceUse use() const override {
    const Hold hold(mutex_);
    return use_;
  }

 private:
  using Hold = std::lock_guard<std::mutex>;
  void select() const {
    check_context();
    check(cudaSetDevice(index_), "choosing the GPU");  // the current device belongs to the OS thread
  }
  void move(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind, Stream stream) const {
    select();
    if (bytes) check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, of(stream)), "copying");
  }

  int index_;
  mutable std::mutex mutex_;
  DeviceUse use_;
  std::map<void*, int64_t> allocated_;
};

}  // namespace

Gpu current_gpu() {
  int index = 0, major = 0, minor = 0, processors = 0;
  check(cudaGetDevice(&index), "asking for the current GPU");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "asking the GPU for its architecture");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "asking the GPU for its architecture");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index), "asking the GPU for its processors");
  const int architecture = std::min(10 * major + minor, asked_architecture());
#ifdef LONGER_SM_90A
  return {architecture, processors, architecture == 90};
#else
  return {architecture, processors, false};
#endif
}

std::unique_ptr<Device> open_device(const std::string& name) {
  check_context();
  return std::make_unique<CudaDevice>(usable_gpu(cuda_state(), name));
}

}  // namespace longer
