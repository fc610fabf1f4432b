#include "quant/iq3_s.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/fit.h"
#include "quant/iq3_fit.h"

namespace rwkvcpp {
namespace {

const Iq3Codebook& codebook() {
  static const Iq3Codebook made(kIq3SCodebook,
                                {.tries = 9,
                                 .n_near = 3,
                                 .repeats_all = true,
                                 .smallest_peak = std::numeric_limits<float>::denorm_min()});
  return made;
}

constexpr float kWiden = 1.033f;  // the scale, once all is rounded: errors are seen to be smaller

/// One sub-block, its sub-scale not yet known; what it is fitted best with.
///
/// ggml goes on to the next sub-block without moving its pointers where all 32 weights are zeros,
/// so that the rest of the block is stored for the wrong weights. There we differ from it.
float quantize_sub_block(const float* in, const float* w, std::size_t s, IQ3_S::Block& b) {
  float magnitudes[kBlock];
  for (std::size_t i = 0; i < kBlock; ++i) {
    const bool minus = !(in[i] >= 0.0f);
    magnitudes[i] = minus ? -in[i] : in[i];
    b.signs[s][i / 8] |= static_cast<std::uint8_t>(static_cast<unsigned>(minus) << (i % 8));
  }
  const Iq3Fit fit = codebook().fit(magnitudes, w);
  for (std::size_t q = 0; q < kBlock / 4; ++q) {
    b.low[s * 8 + q] = static_cast<std::uint8_t>(fit.entries[q] & 0xFFu);
    b.high[s] |= static_cast<std::uint8_t>(fit.entries[q] >> 8 << q);
  }
  return fit.scale;
}

void quantize_by(const float* in, const float* w, IQ3_S::Block& b) {
  std::memset(&b, 0, sizeof b);
  float scales[IQ3_S::kSubBlocks];
  for (std::size_t s = 0; s < IQ3_S::kSubBlocks; ++s) {
    scales[s] = quantize_sub_block(in + s * kBlock, w + s * kBlock, s, b);
  }
  const float peak = *std::max_element(scales, scales + IQ3_S::kSubBlocks);
  if (peak == 0.0f) return;
  b.scale = fp32_to_fp16(peak / 31.0f * kWiden);
  for (std::size_t s = 0; s < IQ3_S::kSubBlocks; ++s) {
    const auto code = static_cast<unsigned>(iq3_sub_scale(scales[s], peak));
    b.sub_scales[s / 2] |= static_cast<std::uint8_t>(code << (s % 2 * 4));
  }
}

}  // namespace

void IQ3_S::quantize(const float* in, Block& b) noexcept {
  float w[kInputs];
  fit::square(in, kInputs, w);
  quantize_by(in, w, b);
}

void IQ3_S::quantize_weighted(const float* in, const float* importances, float, Block& b) noexcept {
  float w[kInputs];
  const float mean_square = 2.0f * fit::sum_of_squares(in, kInputs) / static_cast<float>(kInputs);
  fit::weigh(in, importances, mean_square, kInputs, w);
  quantize_by(in, w, b);
}

}  // namespace rwkvcpp
