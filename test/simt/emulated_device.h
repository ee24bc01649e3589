// The emulated device's streams.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/device.h"

namespace simt {

// Work of streams runs as late as possible: when somebody synchronizes, in a random order that streams and events allow
// (options().seed). The null stream runs at once.
// `touches`: addresses that the work may use, of a stream that is captured.
void enqueue(longer::Stream stream, std::function<void()> work, const std::vector<const void*>& touches = {});
bool is_captured(longer::Stream stream);

// Every word of a kernel's arguments, whatever it is.
template <class Argument>
void add_words(std::vector<const void*>& words, const Argument& argument) {
  const void* word;
  for (size_t at = 0; at + sizeof word <= sizeof argument; at += alignof(void*)) {
    std::memcpy(&word, reinterpret_cast<const char*>(&argument) + at, sizeof word);
    words.push_back(word);
  }
}

std::unique_ptr<longer::Device> open_emulated_device();

}  // namespace simt
