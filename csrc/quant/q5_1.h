// Q5_1: 32 weights in 24 bytes. weight = scale * code + minimum, the code's fifth bit apart.
#pragma once

#include <algorithm>

#include "quant/fit.h"
#include "quant/five_bits.h"
#include "quant/half.h"
#include "quant/nibble_tile.h"
#include "quant/with_minimum.h"

namespace rwkvcpp {

struct Q5_1 : NibbleCodes</*minimum=*/true, /*fifth_bit=*/true, /*offset=*/0> {
  static constexpr WeightType kType = WeightType::kQ5_1;

  struct Block {
    std::uint16_t scale;    // fp16
    std::uint16_t minimum;  // fp16
    FiveBitCodes codes;
  };
  static_assert(sizeof(Block) == 24 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    const float minimum = fp16_to_fp32(b.minimum);
    for (std::size_t i = 0; i < kBlock; ++i) {
      out[i] = static_cast<float>(b.codes.code(i)) * scale + minimum;
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    const fit::Range range = fit::range_of(in);
    const float minimum = range.low;
    const float scale = (range.high - minimum) / 31.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    b.minimum = fp32_to_fp16(minimum);
    b.codes.fill(
        [&](std::size_t i) { return static_cast<int>((in[i] - minimum) * inverse + 0.5f); });
  }

  static void quantize_weighted(const float* in, const float* importances, float mean_square,
                                std::span<Block> b) noexcept {
    weighted_with_minimum<Q5_1>(in, importances, mean_square, b);
  }

  static void quantize_closest(const float* in, const float* importances,
                               std::span<Block> b) noexcept {
    closest_with_minimum<Q5_1>(in, importances, b);
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
      tile.minimums.values[r] = rows[r].minimum;
      high[r] = rows[r].codes.fifth_word();
      nibbles[r] = rows[r].codes.nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
    pack_fifth_bits(high, tile.fifth_bits.plane);
  }
};

}  // namespace rwkvcpp
