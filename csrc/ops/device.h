// Where a model runs: "cpu" or "cuda".
#pragma once

#include <memory>
#include <string_view>

#include "ops/ops.h"

namespace rwkvcpp {

/// The Ops of a device. UnsupportedError when this build or machine has it not.
std::unique_ptr<Ops> make_ops(std::string_view device, const OpsOptions& options);

std::unique_ptr<Ops> make_cpu_ops(const OpsOptions& options);
std::unique_ptr<Ops> make_cuda_ops(const OpsOptions& options);

}  // namespace rwkvcpp
