// Q3_K: 256 weights in 110 bytes, 3.4 bits each.
// weight = scale * sub_scale * (code - 4), a sub_scale of -32 ... 31 for every 16 weights.
#pragma once

#include "quant/fit.h"
#include "quant/half.h"
#include "quant/planes.h"

namespace rwkvcpp {

struct Q3_K {
  static constexpr WeightType kType = WeightType::kQ3_K;
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kSubBlocks = kInputs / kBlock;
  static constexpr std::size_t kRun = 16;  // weights that share a sub-scale
  static constexpr std::size_t kRuns = kInputs / kRun;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kHalfScales = true;
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 4;
  static constexpr int kMaxCode = 7;
  static constexpr bool kHasColumns = false;

  struct Block {
    std::uint8_t third_bits[kBlock];  // bit s of byte i: weight i of sub-block s
    std::uint8_t pairs[64];           // as in Q2_K
    std::uint8_t sub_scales[12];      // + 32: eight bytes of low halves, then pairs
    std::uint16_t scale;              // fp16

    unsigned code(std::size_t i) const noexcept {
      const std::size_t s = i / kBlock, l = i % kBlock;
      const unsigned low = (pairs[s / 4 * kBlock + l] >> (s % 4 * 2)) & 3u;
      return low | ((third_bits[l] >> s) & 1u) << 2;
    }
    int sub_scale(std::size_t run) const noexcept {
      const int low = (sub_scales[run % 8] >> (run / 8 * 4)) & 0x0F;
      const int high = (sub_scales[8 + run % 4] >> (run / 4 * 2)) & 3;
      return (low | high << 4) - 32;
    }
  };
  struct Tile {
    std::uint16_t scales[kTileRows];  // fp16
    std::int8_t sub_scales[kSubBlocks][2][kTileRows];
    Plane pairs[kSubBlocks][2];
    Plane third_bits[kSubBlocks];
  };
  static_assert(sizeof(Block) == 110 && sizeof(Tile) == kTileRows * (sizeof(Block) + 4));

  static void dequantize(const Block& b, float* out) noexcept {
    for (std::size_t run = 0; run < kRuns; ++run) {
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(b.sub_scale(run));
      for (std::size_t i = run * kRun; i < (run + 1) * kRun; ++i) {
        out[i] = scale * static_cast<float>(static_cast<int>(b.code(i)) - 4);
      }
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    float scales[kRuns];
    std::int8_t codes[kInputs];
    for (std::size_t run = 0; run < kRuns; ++run) {
      const auto best = fit::fit_one_by_one<kRun>(in + run * kRun, 4);
      scales[run] = best.scale;
      std::copy(best.codes, best.codes + kRun, codes + run * kRun);
    }
    finish(in, codes, round_to_peak(scales), b);
  }

  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    const float mean_square = 2.0f * fit::sum_of_squares(in, kInputs) / static_cast<float>(kInputs);
    float w[kInputs], weights[kRuns];
    for (std::size_t run = 0; run < kRuns; ++run) {
      const std::size_t at = run * kRun;
      weights[run] = fit::weigh(in + at, importances + at, mean_square, kRun, w + at);
    }
    fit::Symmetric<kRun> fits[kRuns];
    fit::fit_symmetric<kRun>(in, w, 4, fits);
    float scales[kRuns];
    std::int8_t codes[kInputs];
    for (std::size_t run = 0; run < kRuns; ++run) {
      scales[run] = fits[run].scale;
      std::copy(fits[run].codes, fits[run].codes + kRun, codes + run * kRun);
    }
    fit::Symmetric<kRuns> of_scales[1];
    fit::fit_symmetric<kRuns>(scales, weights, 32, of_scales);
    finish(in, codes, of_scales[0], b);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const Block& b = rows[r];
      tile.scales[r] = b.scale;
      for (std::size_t s = 0; s < kSubBlocks; ++s) {
        tile.sub_scales[s][0][r] = static_cast<std::int8_t>(b.sub_scale(2 * s));
        tile.sub_scales[s][1][r] = static_cast<std::int8_t>(b.sub_scale(2 * s + 1));
        put_pairs(b.pairs + s / 4 * kBlock, static_cast<int>(s % 4 * 2), r, tile.pairs[s]);
        put_bits(b.third_bits, static_cast<int>(s), r, tile.third_bits[s]);
      }
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::I sub_scales(const Tile& tile, std::size_t sub, std::size_t half,
                                  std::size_t lane) noexcept {
    return S::load_i8(tile.sub_scales[sub][half] + lane);
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    take_pairs<S, 0>(tile.pairs[sub], lane, out);
    add_bits<S, 2>(tile.third_bits[sub], lane, out);
  }

 private:
  /// The sub-scale of largest magnitude becomes -32.
  static fit::Symmetric<kRuns> round_to_peak(const float (&scales)[kRuns]) noexcept {
    fit::Symmetric<kRuns> rounded{0.0f, {}};
    std::fill(rounded.codes, rounded.codes + kRuns, static_cast<std::int8_t>(-32));
    const float peak = fit::signed_peak(scales, kRuns);
    if (peak == 0.0f) return rounded;
    const float inverse = -32.0f / peak;
    rounded.scale = 1.0f / inverse;
    for (std::size_t run = 0; run < kRuns; ++run) {
      rounded.codes[run] =
          static_cast<std::int8_t>(std::clamp(fit::nearest(inverse * scales[run]), -32, 31));
    }
    return rounded;
  }

  static void finish(const float* in, std::int8_t (&codes)[kInputs],
                     const fit::Symmetric<kRuns>& scales, Block& b) noexcept {
    std::memset(&b, 0, sizeof b);
    b.scale = fp32_to_fp16(scales.scale);
    for (std::size_t run = 0; run < kRuns; ++run) {
      put_sub_scale(b, run, static_cast<unsigned>(scales.codes[run] + 32));
      const float step = fp16_to_fp32(b.scale) * static_cast<float>(scales.codes[run]);
      if (step == 0.0f) continue;  // the first fit's codes stay, as ggml leaves them
      fit::encode_symmetric(in + run * kRun, kRun, step, 4, codes + run * kRun);
    }
    for (std::size_t i = 0; i < kInputs; ++i) {
      const std::size_t s = i / kBlock, l = i % kBlock;
      const auto code = static_cast<unsigned>(codes[i] + 4);
      b.pairs[s / 4 * kBlock + l] |= static_cast<std::uint8_t>((code & 3u) << (s % 4 * 2));
      b.third_bits[l] |= static_cast<std::uint8_t>(code >> 2 << s);
    }
  }

  static void put_sub_scale(Block& b, std::size_t run, unsigned code) noexcept {
    b.sub_scales[run % 8] |= static_cast<std::uint8_t>((code & 0x0Fu) << (run / 8 * 4));
    b.sub_scales[8 + run % 4] |= static_cast<std::uint8_t>(code >> 4 << (run / 4 * 2));
  }
};

}  // namespace rwkvcpp
