// F32: a weight is itself.
#pragma once

#include "quant/float_tile.h"

namespace rwkvcpp {

struct F32 : FloatFormat<float, WeightType::kF32> {
  static void dequantize(const Block& value, float* out) noexcept { *out = value; }
  static void quantize(const float* in, Block& value) noexcept { value = *in; }

  template <class S>
  static typename S::F weights(const Tile& tile, std::size_t lane) noexcept {
    return S::load(tile.weights + lane);
  }
  /// S::kLanes weights of one input, from `row` of a strip on.
  template <class S>
  static typename S::F column_weights(const std::uint8_t* strip, std::size_t row) noexcept {
    return S::load(reinterpret_cast<const float*>(strip) + row);
  }
};

}  // namespace rwkvcpp
