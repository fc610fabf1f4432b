// Which inputs of a product are not zero, block by block, for the kernels that leave out the
// others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

inline constexpr ActiveInputs kAllInputs = [] {
  ActiveInputs all{kBlock, {}};
  for (std::size_t i = 0; i < kBlock; ++i) all.index[i] = static_cast<std::uint8_t>(i);
  return all;
}();

/// Lists the set bits of a mask.
inline void list_active(std::uint32_t mask, ActiveInputs& out) noexcept {
  std::size_t n = 0;
  for (; mask != 0; mask &= mask - 1) {
    out.index[n++] = static_cast<std::uint8_t>(__builtin_ctz(mask));
  }
  out.n_active = static_cast<std::uint8_t>(n);
}

template <class S>
std::size_t find_active(const ActiveArgs& a) noexcept {
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  std::size_t total = 0;
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ActivationBlock* block = x + b * a.n_rows;
    std::uint32_t mask = 0;
    for (std::size_t r = 0; r < a.n_rows; ++r) mask |= S::nonzero(block[r].values);
    ActiveInputs& out = a.active[b];
    list_active(mask, out);
    total += out.n_active;
    const std::size_t n = out.n_active, filled = (n + 3) / 4 * 4;
    std::int8_t* values = a.values + b * a.n_rows * kBlock;
    for (std::size_t i = n; i < filled; ++i) out.index[i] = out.index[0];
    for (std::size_t r = 0; r < a.n_rows; ++r, values += kBlock) {
      for (std::size_t i = 0; i < n; ++i) values[i] = block[r].values[out.index[i]];
      for (std::size_t i = n; i < filled; ++i) values[i] = 0;
    }
  }
  return total;
}

inline std::size_t find_active_floats(const ActiveArgs& a) noexcept {
  const auto* x = static_cast<const float*>(a.x);
  std::size_t total = 0;
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    std::uint32_t mask = 0;
    for (std::size_t i = 0; i < kBlock; ++i, x += a.n_rows) {
      for (std::size_t r = 0; r < a.n_rows; ++r) mask |= std::uint32_t{x[r] != 0.0f} << i;
    }
    list_active(mask, a.active[b]);
    total += a.active[b].n_active;
  }
  return total;
}

}  // namespace
}  // namespace rwkvcpp::kernels
