// The list of devices. To add one: its Ops, its line, and a stub for builds without it.
#include "ops/device.h"

#include <cstdlib>
#include <string>
#include <utility>

#include "core/error.h"

namespace rwkvcpp {
namespace {

struct Device {
  std::string_view name;
  std::unique_ptr<Ops> (*make)(const OpsOptions& options);
};

constexpr Device kDevices[] = {{"cpu", make_cpu_ops}, {"cuda", make_cuda_ops}};

}  // namespace

Skipping skipping_from_environment() {
  constexpr std::pair<std::string_view, Skipping> kNames[] = {
      {"off", Skipping::kNever}, {"auto", Skipping::kAuto}, {"on", Skipping::kAlways}};
  const char* given = std::getenv("RWKVCPP_SPARSE");
  if (given == nullptr || *given == '\0') return Skipping::kAuto;
  for (const auto& [name, skipping] : kNames) {
    if (name == given) return skipping;
  }
  throw UnsupportedError("RWKVCPP_SPARSE is \"" + std::string(given) +
                         "\", expected off, auto or on");
}

std::unique_ptr<Ops> make_ops(std::string_view device, const OpsOptions& options) {
  std::string names;
  for (const Device& known : kDevices) {
    if (known.name == device) return known.make(options);
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  throw UnsupportedError("device is \"" + std::string(device) + "\", expected one of " + names);
}

}  // namespace rwkvcpp
