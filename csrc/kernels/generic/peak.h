// The two roofs of a processor: bytes it can read, and products of bytes that its
// widest dot product can do from registers. For benchmarks.
#pragma once

#include <utility>

#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
void read(const void* p, std::size_t n) noexcept {
  constexpr std::size_t kStreams = 4, kBytes = 4 * S::kLanes;
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  typename S::I sums[kStreams];
  for (auto& sum : sums) sum = S::set_int(0);
  for (std::size_t i = 0; i < n; i += kStreams * kBytes) {
    for (std::size_t j = 0; j < kStreams; ++j) {
      sums[j] = S::bit_or(sums[j], S::bytes_as_int(S::load_bytes(bytes + i + j * kBytes)));
    }
  }
  for (auto& sum : sums) S::touch(sum);
}

template <class S, std::size_t... chain>
void dot_chains(std::size_t n, std::index_sequence<chain...>) noexcept {
  alignas(64) std::uint8_t code_bytes[4 * S::kLanes];
  for (auto& byte : code_bytes) byte = 3;
  const std::int8_t x[4] = {1, -2, 3, -4};
  const typename S::Bytes codes = S::load_bytes(code_bytes);
  // Constant indices, one variable a chain: the compiler keeps them in registers.
  typename S::I sums[] = {S::set_int(static_cast<int>(chain))...};
  for (std::size_t i = 0; i < n; ++i) {
    ((sums[chain] = S::template dot<15, 1>(sums[chain], &codes, x), S::touch(sums[chain])), ...);
  }
}

template <class S>
std::size_t dot_rounds(std::size_t n) noexcept {
  dot_chains<S>(n, std::make_index_sequence<kPeakDots>());
  return kPeakDots * 4 * S::kLanes;
}

template <class S>
void fill_peak(KernelTable& table) noexcept {
  table.read = read<S>;
  table.dot_rounds = dot_rounds<S>;
}

}  // namespace
}  // namespace rwkvcpp::kernels
