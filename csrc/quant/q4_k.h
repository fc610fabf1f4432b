// Q4_K: 256 weights in 144 bytes, 4.5 bits each.
// weight = scale * sub_scale * nibble - minimum * sub_minimum, both of these per 32.
#pragma once

#include "quant/k_nibbles.h"

namespace rwkvcpp {

struct Q4_K : KNibbles</*fifth_bit=*/false> {
  static constexpr WeightType kType = WeightType::kQ4_K;
  static_assert(sizeof(Block) == 144 && sizeof(Tile) == kTileRows * (sizeof(Block) + 4));
};

}  // namespace rwkvcpp
