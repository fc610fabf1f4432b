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
};

}  // namespace rwkvcpp
