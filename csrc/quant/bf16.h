// BF16: the upper half of a float32.
#pragma once

#include "quant/float_tile.h"
#include "quant/half.h"

namespace rwkvcpp {

struct BF16 : FloatFormat<std::uint16_t, WeightType::kBF16> {
  static void dequantize(const Block& value, float* out) noexcept { *out = bf16_to_fp32(value); }
  static void quantize(const float* in, Block& value) noexcept { value = fp32_to_bf16(*in); }

  template <class S>
  static typename S::F weights(const Tile& tile, std::size_t lane) noexcept {
    return S::load_bf16(tile.weights + lane);
  }
  /// S::kLanes weights of one input, from `row` of a strip on.
  template <class S>
  static typename S::F column_weights(const std::uint8_t* strip, std::size_t row) noexcept {
    return S::load_bf16(reinterpret_cast<const std::uint16_t*>(strip) + row);
  }
};

}  // namespace rwkvcpp
