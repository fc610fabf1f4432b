// The two roofs of a processor: bytes it can read, and products of bytes that its
// widest dot product can do from registers. For benchmarks.
#pragma once

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

template <class S>
std::size_t dot_rounds(std::size_t n) noexcept {
  alignas(64) std::uint8_t code_bytes[4 * S::kLanes];
  for (auto& byte : code_bytes) byte = 3;
  const std::int8_t x[4] = {1, -2, 3, -4};
  const typename S::Bytes codes = S::load_bytes(code_bytes);
  typename S::I sums[kPeakDots];
  for (auto& sum : sums) sum = S::set_int(0);
  for (std::size_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) {
      sum = S::template dot<15, 1>(sum, &codes, x);
      S::touch(sum);
    }
  }
  for (auto& sum : sums) S::touch(sum);
  return kPeakDots * 4 * S::kLanes;
}

template <class S>
void fill_peak(KernelTable& table) noexcept {
  table.read = read<S>;
  table.dot_rounds = dot_rounds<S>;
}

}  // namespace
}  // namespace rwkvcpp::kernels
