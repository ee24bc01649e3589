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
inline Error memory_error(const std::string& message) { return {"ERR_MEMORY", message}; }

}  // namespace longer
