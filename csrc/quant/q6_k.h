// Q6_K: 256 weights in 210 bytes. weight = scale * sub_scale * (code - 32), a
// sub_scale for every 16 weights.
//
// A tile holds eight sub-blocks of 32 inputs, one per activation block. With
// |code - 32| <= 32 and |sub_scale| <= 128 a sub-block's integer sum stays below
// 32 * 127 * 32 * 128 < 2^24: exact in a float.
#pragma once

#include <algorithm>
#include <cmath>

#include "quant/fit.h"
#include "quant/half.h"
#include "quant/planes.h"

namespace rwkvcpp {

struct Q6_K {
  static constexpr WeightType kType = WeightType::kQ6_K;
  static constexpr std::size_t kInputs = 256;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kSigned = false;
  static constexpr bool kHalfScales = true;  // two integer sub-scales per 32 inputs
  static constexpr int kOffset = 32;
  static constexpr int kMaxCode = 63;
  static constexpr std::size_t kSubBlocks = 8;
  static constexpr bool kHasColumns = false;

  struct Block {
    std::uint8_t low[128];  // four low bits
    std::uint8_t high[64];  // two high bits
    std::int8_t sub_scales[16];
    std::uint16_t scale;  // fp16
  };
  struct SubTile {
    std::int8_t sub_scales[2][kTileRows];
    Plane nibbles[4];
    Plane pairs[2];
  };
  struct Tile {
    std::uint16_t scales[kTileRows];  // fp16
    SubTile sub[kSubBlocks];
  };
  static_assert(sizeof(Block) == 210 && sizeof(Tile) == kTileRows * sizeof(Block));

  /// Code (0 … 63) of weight i of the block: halves of 128, in each four runs of 32.
  static unsigned code(const Block& b, std::size_t i) noexcept {
    const std::size_t half = i / 128, run = i % 128 / 32, l = i % 32;
    const unsigned low = b.low[64 * half + 32 * (run % 2) + l] >> (run < 2 ? 0 : 4);
    const unsigned high = b.high[32 * half + l] >> (2 * run);
    return (low & 0x0Fu) | (high & 3u) << 4;
  }

  static void set_code(Block& b, std::size_t i, unsigned code) noexcept {
    const std::size_t half = i / 128, run = i % 128 / 32, l = i % 32;
    b.low[64 * half + 32 * (run % 2) + l] |=
        static_cast<std::uint8_t>((code & 0x0Fu) << (run < 2 ? 0 : 4));
    b.high[32 * half + l] |= static_cast<std::uint8_t>((code >> 4) << (2 * run));
  }

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kInputs; ++i) {
      const float step = scale * static_cast<float>(b.sub_scales[i / 16]);
      out[i] = step * static_cast<float>(static_cast<int>(code(b, i)) - 32);
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    float squares[kInputs];
    fit::square(in, kInputs, squares);
    quantize_by(in, squares, b);
  }
  /// Importances alone, as ggml has it: elsewhere large weights count more.
  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    quantize_by(in, importances, b);
  }

  static float step(const Block& b, std::size_t i) noexcept {
    return fp16_to_fp32(b.scale) * static_cast<float>(b.sub_scales[i / 16]);
  }
  static void get_codes(const Block& b, std::uint8_t* codes) noexcept {
    for (std::size_t i = 0; i < kInputs; ++i) codes[i] = static_cast<std::uint8_t>(code(b, i));
  }
  static void set_codes(Block& b, const std::uint8_t* codes) noexcept {
    std::memset(b.low, 0, sizeof b.low);
    std::memset(b.high, 0, sizeof b.high);
    for (std::size_t i = 0; i < kInputs; ++i) set_code(b, i, codes[i]);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      for (std::size_t s = 0; s < kSubBlocks; ++s) pack_row(rows[r], s, r, tile.sub[s]);
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::I sub_scales(const Tile& tile, std::size_t sub, std::size_t half,
                                  std::size_t lane) noexcept {
    return S::load_i8(tile.sub[sub].sub_scales[half] + lane);
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    take_nibbles<S>(tile.sub[sub].nibbles, lane, out);
    add_pairs<S, 4>(tile.sub[sub].pairs, lane, out);
  }

 private:
  static void pack_row(const Block& b, std::size_t s, std::size_t r, SubTile& out) noexcept {
    const std::size_t half = s / 4, run = s % 4;
    out.sub_scales[0][r] = b.sub_scales[2 * s];
    out.sub_scales[1][r] = b.sub_scales[2 * s + 1];
    put_nibbles(b.low + 64 * half + 32 * (run % 2), run < 2 ? 0 : 4, r, out.nibbles);
    put_pairs(b.high + 32 * half, static_cast<int>(2 * run), r, out.pairs);
  }

  static void quantize_by(const float* in, const float* w, Block& b) noexcept {
    std::memset(&b, 0, sizeof b);
    fit::Symmetric<16> fits[16];
    float scales[16];
    fit::fit_symmetric<16>(in, w, 32, fits);
    for (std::size_t g = 0; g < 16; ++g) scales[g] = fits[g].scale;
    const float peak = fit::signed_peak(scales, 16);
    if (std::fabs(peak) < fit::kSmallestPeak) return;
    const float inverse = -128.0f / peak;
    b.scale = fp32_to_fp16(1.0f / inverse);
    for (std::size_t g = 0; g < 16; ++g) {
      const int sub_scale = std::min(127, fit::nearest(inverse * scales[g]));
      b.sub_scales[g] = static_cast<std::int8_t>(sub_scale);
      const float step = fp16_to_fp32(b.scale) * static_cast<float>(b.sub_scales[g]);
      // Under a step of zero the first fit's codes stay, as ggml leaves them.
      if (step != 0.0f) fit::encode_symmetric(in + 16 * g, 16, step, 32, fits[g].codes);
      for (std::size_t i = 0; i < 16; ++i) {
        set_code(b, 16 * g + i, static_cast<unsigned>(fits[g].codes[i] + 32));
      }
    }
  }
};

}  // namespace rwkvcpp
