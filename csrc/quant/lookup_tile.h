// The tile that IQ4_XS, IQ3_XXS and IQ3_S share: 256 weights in sub-blocks of 32,
// weight = scale / divisor * sub_scale * table[nibble], a table of sixteen signed values.
//
// The IQ3 formats keep groups of four weights as indices into a codebook, and signs
// apart. Packing spells each weight out as a sign and one of eight levels, which is a
// nibble again: 4.3 bits in memory for the file's 3.1 or 3.4, and one byte shuffle to
// decode instead of a gather from a table per group of four.
#pragma once

#include "quant/half.h"
#include "quant/planes.h"

namespace rwkvcpp {

template <LookupTable table, int divisor>
struct LookupCodes {
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kSubBlocks = kInputs / kBlock;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kHalfScales = false;
  static constexpr bool kSigned = true;
  static constexpr int kOffset = 0;
  static constexpr int kMaxCode = 128;
  static constexpr bool kHasColumns = false;
  static constexpr float kFactor = 1.0f / static_cast<float>(divisor);

  struct Tile {
    std::uint16_t scales[kTileRows];  // fp16
    std::int8_t sub_scales[kSubBlocks][kTileRows];
    Plane nibbles[kSubBlocks][4];
  };

  /// The product of scale (eleven bits), power of two and sub-scale is exact.
  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t sub, std::size_t lane) noexcept {
    const auto scales = S::mul(S::load_f16(tile.scales + lane),
                               S::to_float(S::load_i8(tile.sub_scales[sub] + lane)));
    return divisor == 1 ? scales : S::mul(scales, S::set(kFactor));
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    look_up_nibbles<S, table>(tile.nibbles[sub], lane, out);
  }

  /// Rows of anything with scale, sub_scale(s) and nibble(i).
  template <class Block>
  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      for (std::size_t s = 0; s < kSubBlocks; ++s) {
        tile.sub_scales[s][r] = static_cast<std::int8_t>(rows[r].sub_scale(s));
        std::uint8_t nibbles[kBlock];
        rows[r].nibbles_of(s, nibbles);
        put_nibbles(nibbles, 0, r, tile.nibbles[s]);
      }
    }
  }

  template <class Block>
  static void dequantize(const Block& b, float* out) noexcept {
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(b.sub_scale(s)) * kFactor;
      std::uint8_t nibbles[kBlock];
      b.nibbles_of(s, nibbles);
      for (std::size_t i = 0; i < kBlock; ++i) {
        out[s * kBlock + i] = scale * static_cast<float>(table.values[nibbles[i]]);
      }
    }
  }
};

}  // namespace rwkvcpp
