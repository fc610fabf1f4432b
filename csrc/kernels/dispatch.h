// Which kernel tables this processor can run, and which one is in use.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernels/cpu_features.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {

/// Slowest first; the first is "scalar", the oracle.
const std::vector<const KernelTable*>& supported_tables();

/// The fastest, or the one that RWKVCPP_ISA names. UnsupportedError when this
/// processor lacks it or nobody knows it.
const KernelTable& active_table();

/// nullptr when unknown or not supported here.
const KernelTable* find_table(std::string_view isa);

}  // namespace rwkvcpp::kernels
