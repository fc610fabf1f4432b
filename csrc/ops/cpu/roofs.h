// What this machine can do at most, measured: the roofs that benchmarks quote
// shares of.
#pragma once

#include <cstddef>

#include "core/thread_pool.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp {

/// GB/s of reading a buffer of n_bytes (in huge pages where granted), all threads.
double read_roof(ThreadPool& pool, const kernels::KernelTable& table, std::size_t n_bytes);

/// Gop/s of int8 multiply-adds from registers (two operations each), all threads.
double int8_roof(ThreadPool& pool, const kernels::KernelTable& table);

}  // namespace rwkvcpp
