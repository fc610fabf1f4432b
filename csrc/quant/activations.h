// Activations as the integer kernels read them: 32 inputs, int8, in 48 bytes.
// input = scale * value, |value| <= 127.
//
// The scale is float32: an fp16 one would be subnormal below a maximum of
// 0.0078, which ReLU^2 outputs often are. The sums pay for the offsets of
// unsigned codes (sum (q - 8) x = sum q x - 8 sum x) and for formats with a
// minimum, once per row instead of once per output.
#pragma once

#include <cstdint>

#include "quant/format.h"

namespace rwkvcpp {

struct ActivationBlock {
  float scale;
  float scaled_sum;          // scale * sum
  std::int32_t sum;          // of all values
  std::int16_t half_sum[2];  // of the first and the last 16
  std::int8_t values[kBlock];
};
static_assert(sizeof(ActivationBlock) == 48);

/// Blocks whose largest magnitude is below this are zero: 127 / amax overflows.
inline constexpr float kSmallestActivation = 1e-30f;

}  // namespace rwkvcpp
