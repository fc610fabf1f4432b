// What F32, F16 and BF16 have in common: a block is one weight, a tile the
// weights of 16 rows for one input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

namespace rwkvcpp {

template <class Storage, WeightType type>
struct FloatFormat {
  static constexpr WeightType kType = type;
  static constexpr std::size_t kInputs = 1;
  static constexpr bool kIsFloat = true;

  using Block = Storage;
  struct Tile {
    Storage weights[kTileRows];
  };

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) tile.weights[r] = rows[r];
  }
};

}  // namespace rwkvcpp
