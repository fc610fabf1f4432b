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
  float lanes[S::kLanes];
  S::store(lanes, S::as_float(largest));
  std::int32_t result = 0;
  for (const float lane : lanes) {
    const std::int32_t bits = std::bit_cast<std::int32_t>(lane);
    result = bits > result ? bits : result;
  }
  return std::bit_cast<float>(result);
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
  out.scale = zero ? 0.0f : largest / 127.0f;
  std::int32_t halves[2];
  for (int h = 0; h < 2; ++h) {
    float lanes[S::kLanes];
    S::store(lanes, S::as_float(sums[h]));
    halves[h] = 0;
    for (const float lane : lanes) {
      halves[h] = Scalar::add(halves[h], std::bit_cast<std::int32_t>(lane));
    }
    out.half_sum[h] = static_cast<std::int16_t>(halves[h]);
  }
  out.sum = Scalar::add(halves[0], halves[1]);
  out.scaled_sum = out.scale * static_cast<float>(out.sum);
}

template <class S>
void quantize(const float* x, std::size_t n_blocks, void* blocks, std::size_t stride) noexcept {
  auto* out = static_cast<ActivationBlock*>(blocks);
  for (std::size_t b = 0; b < n_blocks; ++b) quantize_block<S>(x + b * kBlock, out[b * stride]);
}

/// A cache line of each row at a time: rows a power of two apart share cache sets.
inline void interleave(const float* x, std::size_t stride, std::size_t n_rows, std::size_t n_inputs,
                       float* panel) noexcept {
  constexpr std::size_t kLine = 16;
  for (std::size_t begin = 0; begin < n_inputs; begin += kLine) {
    const std::size_t end = begin + kLine < n_inputs ? begin + kLine : n_inputs;
    for (std::size_t r = 0; r < n_rows; ++r) {
      for (std::size_t i = begin; i < end; ++i) panel[i * n_rows + r] = x[r * stride + i];
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
