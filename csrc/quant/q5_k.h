// Q5_K: 256 weights in 176 bytes, 5.5 bits each.
// weight = scale * sub_scale * code - minimum * sub_minimum, both of these per 32.
#pragma once

#include "quant/k_nibbles.h"

namespace rwkvcpp {

struct Q5_K : KNibbles</*fifth_bit=*/true> {
  static constexpr WeightType kType = WeightType::kQ5_K;
  static_assert(sizeof(Block) == 176 && sizeof(Tile) == kTileRows * (sizeof(Block) + 4));
};

}  // namespace rwkvcpp
