// Errors that carry the code which the TypeScript side shows.
#pragma once
#include <stdexcept>
#include <string>

namespace longer {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // a literal
};

inline Error graph_error(const std::string& message) { return {"ERR_GRAPH", message}; }
inline Error shape_error(const std::string& message) { return {"ERR_SHAPE", message}; }
// The device failed for good: `what` was the first failure.
inline Error device_lost(const std::string& what) { return {"ERR_DEVICE_LOST", "the GPU can do nothing more for this process since it failed (" + what + ")"}; }
inline Error memory_error(const std::string& message) { return {"ERR_MEMORY", message}; }

}  // namespace longer
