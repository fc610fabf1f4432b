// IQ4_NL: 32 weights in 18 bytes. weight = scale * kIq4Values[nibble].
#pragma once

#include "quant/half.h"
#include "quant/iq4_values.h"
#include "quant/planes.h"

namespace rwkvcpp {

struct IQ4_NL {
  static constexpr WeightType kType = WeightType::kIQ4_NL;
  static constexpr std::size_t kInputs = kBlock;
  static constexpr std::size_t kSubBlocks = 1;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kHalfScales = false;
  static constexpr bool kSigned = true;
  static constexpr int kOffset = 0;
  static constexpr int kMaxCode = 128;
  static constexpr bool kHasColumns = false;

  struct Block {
    std::uint16_t scale;               // fp16
    std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high
  };
  struct Tile {
    std::uint16_t scales[kTileRows];  // fp16
    Plane nibbles[4];
  };
  static_assert(sizeof(Block) == 18 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      out[i] = scale * static_cast<float>(kIq4Values.values[b.nibbles[i] & 0x0F]);
      out[i + kBlock / 2] = scale * static_cast<float>(kIq4Values.values[b.nibbles[i] >> 4]);
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    float w[kBlock];
    fit::square(in, kBlock, w);
    quantize_by(in, w, b);
  }

  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    float w[kBlock];
    const float mean_square = fit::sum_of_squares(in, kBlock) * (2.0f / static_cast<float>(kBlock));
    fit::weigh(in, importances, mean_square, kBlock, w);
    quantize_by(in, w, b);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      for (std::size_t j = 0; j < 4; ++j) {
        std::memcpy(tile.nibbles[j] + 4 * r, rows[r].nibbles + 4 * j, 4);
      }
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    look_up_nibbles<S, kIq4Values>(tile.nibbles, lane, out);
  }

 private:
  static void quantize_by(const float* in, const float* w, Block& b) noexcept {
    const float scale = fit_iq4<kBlock>(in, w);
    b.scale = fp32_to_fp16(scale);
    std::uint8_t nibbles[kBlock];
    encode_iq4(in, kBlock, scale != 0.0f ? 1.0f / scale : 0.0f, nibbles);
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      b.nibbles[i] = static_cast<std::uint8_t>(nibbles[i] | nibbles[i + kBlock / 2] << 4);
    }
  }
};

}  // namespace rwkvcpp
