// What F32, F16 and BF16 have in common: a block is one weight, a tile the
// weights of 16 rows for one input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/columns.h"
#include "quant/format.h"

namespace rwkvcpp {

template <class Storage, WeightType type>
struct FloatFormat {
  static constexpr WeightType kType = type;
  static constexpr std::size_t kInputs = 1;
  static constexpr bool kIsFloat = true;
  static constexpr bool kHasColumns = true;
  static constexpr std::size_t kStripScales = 0;
  static constexpr std::size_t kStripBits = 0;
  static constexpr std::size_t kStripCodes = kStripRows * sizeof(Storage);

  using Block = Storage;
  struct Tile {
    Storage weights[kTileRows];
  };

  static void pack_strip(const Block (&rows)[kStripRows][kBlock], std::size_t strip,
                         const auto& out) noexcept {
    for (std::size_t i = 0; i < kBlock; ++i) {
      auto* weights = reinterpret_cast<Block*>(out.codes + i * out.run + strip * kStripCodes);
      for (std::size_t r = 0; r < kStripRows; ++r) weights[r] = rows[r][i];
    }
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) tile.weights[r] = rows[r];
  }
};

}  // namespace rwkvcpp
