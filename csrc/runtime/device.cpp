#include "runtime/device.h"

#include <map>
#include <mutex>

namespace longer {

std::shared_ptr<Device> shared_device(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Device>> open;
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Device> device = open[name].lock();
  if (!device) open[name] = device = open_device(name);
  return device;
}

}  // namespace longer
