// Activations to int8: scale = largest magnitude of 32 inputs / 127, codes to
// nearest even.
//
// Magnitudes are compared as integers, which orders floats of one sign and puts
// NaN above all, so a NaN becomes the block's scale and reaches the logits.
#pragma once

#include "kernels/generic/lanes.h"
#include "kernels/kernel_table.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
float largest_magnitude(const float* x) noexcept {
  auto largest = S::set_int(0);
  for (std::size_t i = 0; i < kBlock; i += S::kLanes) {
    largest = S::max(largest, S::bit_and(S::as_int(S::load(x + i)), S::set_int(0x7FFFFFFF)));
  }
  return std::bit_cast<float>(S::max_lanes(largest));
}

template <class S>
void quantize_block(const float* x, ActivationBlock& out) noexcept {
  const float largest = largest_magnitude<S>(x);
  const bool zero = largest < kSmallestActivation;
  const auto inverse = S::set(zero ? 0.0f : 127.0f / largest);
  typename S::I sums[2] = {S::set_int(0), S::set_int(0)};
  for (std::size_t i = 0; i < kBlock; i += S::kLanes) {
    const auto codes = S::to_int(S::mul(S::load(x + i), inverse));
    S::store_i8(out.values + i, codes);
    sums[i / 16] = S::add(sums[i / 16], codes);
  }
  const std::int32_t first = S::sum_lanes(sums[0]), last = S::sum_lanes(sums[1]);
  out.scale = zero ? 0.0f : largest / 127.0f;
  out.sum = Scalar::add(first, last);
  out.half_sum[0] = static_cast<std::int16_t>(first);
  out.half_sum[1] = static_cast<std::int16_t>(last);
  out.scaled_sum = out.scale * static_cast<float>(out.sum);
}

template <class S>
void quantize(const float* x, std::size_t n_blocks, void* blocks, std::size_t stride) noexcept {
  auto* out = static_cast<ActivationBlock*>(blocks);
  for (std::size_t b = 0; b < n_blocks; ++b) quantize_block<S>(x + b * kBlock, out[b * stride]);
}

/// A panel of floats: [input][row]. Where an instruction set can transpose registers and
/// there are rows for it, by squares; else by a cache line of each row at a time, since rows
/// a power of two apart share cache sets.
template <class S>
void interleave(const float* x, std::size_t stride, std::size_t n_rows, std::size_t n_inputs,
                float* panel) noexcept {
  constexpr std::size_t n = 16;
  std::size_t begin = 0;
  if constexpr (requires(typename S::F(&rows)[n]) { S::transpose(rows); }) {
    for (; n_rows == n && begin + n <= n_inputs; begin += n) {
      typename S::F square[n];
#pragma GCC unroll 16
      for (std::size_t r = 0; r < n; ++r) square[r] = S::load(x + r * stride + begin);
      S::transpose(square);
#pragma GCC unroll 16
      for (std::size_t i = 0; i < n; ++i) S::store(panel + (begin + i) * n, square[i]);
    }
  }
  for (; begin < n_inputs; begin += n) {
    const std::size_t end = begin + n < n_inputs ? begin + n : n_inputs;
    for (std::size_t r = 0; r < n_rows; ++r) {
      for (std::size_t i = begin; i < end; ++i) panel[i * n_rows + r] = x[r * stride + i];
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
