// Q5_0: 32 weights in 22 bytes. weight = scale * (code - 16), the code's fifth bit apart.
#pragma once

#include <algorithm>

#include "quant/closest_fit.h"
#include "quant/fit.h"
#include "quant/five_bits.h"
#include "quant/half.h"
#include "quant/nibble_tile.h"

namespace rwkvcpp {

struct Q5_0 : NibbleCodes</*minimum=*/false, /*fifth_bit=*/true, /*offset=*/16> {
  static constexpr WeightType kType = WeightType::kQ5_0;

  struct Block {
    std::uint16_t scale;  // fp16
    FiveBitCodes codes;
  };
  static_assert(sizeof(Block) == 22 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kBlock; ++i) {
      out[i] = static_cast<float>(b.codes.code(i) - 16) * scale;
    }
  }

  /// The weight of largest magnitude becomes exactly code 0 (-16).
  static void quantize(const float* in, Block& b) noexcept {
    const float scale = fit::signed_peak(in, kBlock) / -16.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    b.codes.fill(
        [&](std::size_t i) { return std::min(31, static_cast<int>(in[i] * inverse + 16.5f)); });
  }

  static void quantize_weighted(const float* in, const float* importances, float mean_square,
                                std::span<Block> b) noexcept {
    float w[fit::kAbreast * kBlock];
    fit::weigh(in, importances, mean_square, b.size() * kBlock, w);
    fit::Symmetric<kBlock> fits[fit::kAbreast];
    fit::fit_symmetric<kBlock>(in, w, 16, {fits, b.size()});
    for (std::size_t k = 0; k < b.size(); ++k) put(fits[k], b[k]);
  }

  static void quantize_closest(const float* in, const float* importances,
                               std::span<Block> b) noexcept {
    fit::Symmetric<kBlock> fits[fit::kAbreast];
    fit::closest_symmetric<kBlock>(in, importances, 16, {fits, b.size()});
    for (std::size_t k = 0; k < b.size(); ++k) put(fits[k], b[k]);
  }

  static float step(const Block& b, std::size_t) noexcept { return fp16_to_fp32(b.scale); }
  static void get_codes(const Block& b, std::uint8_t* codes) noexcept {
    for (std::size_t i = 0; i < kBlock; ++i) codes[i] = static_cast<std::uint8_t>(b.codes.code(i));
  }
  static void set_codes(Block& b, const std::uint8_t* codes) noexcept {
    b.codes.fill([&](std::size_t i) { return codes[i]; });
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    const std::uint8_t* nibbles[kTileRows];
    std::uint32_t high[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      high[r] = rows[r].codes.fifth_word();
      nibbles[r] = rows[r].codes.nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
    pack_fifth_bits(high, tile.fifth_bits.plane);
  }

 private:
  static void put(const fit::Symmetric<kBlock>& fitted, Block& b) noexcept {
    b.scale = fp32_to_fp16(fitted.scale);
    b.codes.fill([&](std::size_t i) { return fitted.codes[i] + 16; });
  }
};

}  // namespace rwkvcpp
