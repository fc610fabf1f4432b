// The list of devices. To add one: its Ops, its line, and a stub for builds without it.
#include "ops/device.h"

#include <string>

#include "core/error.h"

namespace rwkvcpp {
namespace {

struct Device {
  std::string_view name;
  std::unique_ptr<Ops> (*make)(const OpsOptions& options);
};

constexpr Device kDevices[] = {{"cpu", make_cpu_ops}, {"cuda", make_cuda_ops}};

}  // namespace

std::unique_ptr<Ops> make_ops(std::string_view device, const OpsOptions& options) {
  std::string names;
  for (const Device& known : kDevices) {
    if (known.name == device) return known.make(options);
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  throw UnsupportedError("device is \"" + std::string(device) + "\", expected one of " + names);
}

}  // namespace rwkvcpp
