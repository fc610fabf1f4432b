// Q8_0: 32 weights in 34 bytes. weight = scale * code, -128 <= code <= 127.
#pragma once

#include <algorithm>
#include <cmath>

#include "quant/half.h"
#include "quant/nibble_tile.h"

namespace rwkvcpp {

struct Q8_0 {
  static constexpr WeightType kType = WeightType::kQ8_0;
  static constexpr std::size_t kInputs = kBlock;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kSigned = true;
  static constexpr bool kHalfScales = false;
  static constexpr int kOffset = 0;
  static constexpr int kMaxCode = 128;
  static constexpr std::size_t kSubBlocks = 1;
  static constexpr bool kHasColumns = true;
  static constexpr std::size_t kStripScales = 2 * kStripRows;
  static constexpr std::size_t kStripBits = 0;
  static constexpr std::size_t kStripCodes = kStripRows;

  struct Block {
    std::uint16_t scale;  // fp16
    std::int8_t codes[kBlock];
  };
  struct Tile {
    std::uint16_t scales[kTileRows];       // fp16
    std::uint8_t codes[8][4 * kTileRows];  // byte 4 r + i of codes[g]: row r, input 4 g + i
  };
  static_assert(sizeof(Block) == 34 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(b.codes[i]) * scale;
  }

  static void quantize(const float* in, Block& b) noexcept {
    float peak = 0.0f;
    for (std::size_t i = 0; i < kBlock; ++i) peak = std::max(peak, std::fabs(in[i]));
    const float scale = peak / 127.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    for (std::size_t i = 0; i < kBlock; ++i) {
      b.codes[i] = static_cast<std::int8_t>(std::round(in[i] * inverse));
    }
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    const std::uint8_t* codes[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      codes[r] = reinterpret_cast<const std::uint8_t*>(rows[r].codes);
    }
    interleave_words(codes, tile.codes);
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::F column_scales(const std::uint8_t* strip, std::size_t lane) noexcept {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(strip) + lane);
  }
  template <class S, std::size_t k>
  static void column_codes(const std::uint8_t* const* runs, std::size_t, std::size_t strip,
                           std::size_t lane, typename S::Bytes& first,
                           typename S::Bytes& last) noexcept {
    const std::size_t one = strip * kStripRows, two = one + kLineRows;
    first = S::template interleave_slice<k>(runs[0] + one, runs[1] + one, runs[2] + one,
                                            runs[3] + one, lane);
    last = S::template interleave_slice<k>(runs[0] + two, runs[1] + two, runs[2] + two,
                                           runs[3] + two, lane);
  }
  template <class S>
  static void put_tile_scales(const std::uint8_t* strip, std::size_t row, Tile& tile) noexcept {
    std::memcpy(tile.scales, strip + 2 * row, sizeof tile.scales);
  }
  template <class S>
  static void put_column_scales(const Tile& tile, std::size_t row, std::uint8_t* strip) noexcept {
    std::memcpy(strip + 2 * row, tile.scales, sizeof tile.scales);
  }
  template <class S>
  static void put_tile_codes(const Plane (&codes)[8], Tile& tile) noexcept {
    std::memcpy(tile.codes, codes, sizeof tile.codes);
  }
  template <class S, class Codes>
  static void column_slices(const Codes& codes, std::size_t g, std::size_t line,
                            Plane (&out)[kSlices]) noexcept {
    for (std::size_t k = 0; k < kSlices; ++k) {
      std::memcpy(out[k], codes[kSlices * line + k][g], sizeof out[k]);
    }
  }
  static void pack_strip(const Block (&rows)[kStripRows], std::size_t, std::size_t strip,
                         const ColumnBlock<Q8_0>& out) noexcept {
    auto* scales = reinterpret_cast<std::uint16_t*>(out.scales + strip * kStripScales);
    for (std::size_t r = 0; r < kStripRows; ++r) scales[r] = rows[r].scale;
    for (std::size_t i = 0; i < kBlock; ++i) {
      std::uint8_t* codes = out.codes + i * out.run + strip * kStripCodes;
      for (std::size_t at = 0; at < kStripRows; ++at) {
        const std::size_t row = at / kLineRows * kLineRows + row_of_byte(at % kLineRows);
        codes[at] = static_cast<std::uint8_t>(rows[row].codes[i]);
      }
    }
  }

  template <class S>
  static void codes(const Tile& tile, std::size_t, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    for (std::size_t g = 0; g < 8; ++g) out[g] = S::load_bytes(tile.codes[g] + 4 * lane);
  }
};

}  // namespace rwkvcpp
