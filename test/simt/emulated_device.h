// The emulated device's streams.
#pragma once
#include <functional>
#include <memory>

#include "runtime/device.h"

namespace simt {

// Work of streams runs as late as possible: when somebody synchronizes, in a random order that streams and events allow
// (options().seed). The null stream runs at once.
void enqueue(longer::Stream stream, std::function<void()> work);

std::unique_ptr<longer::Device> open_emulated_device();

}  // namespace simt
