// NEON with the four-way dot product (ARMv8.2 dotprod): Cortex-A55/A75 (2017) and
// later, every Apple chip since A13.
#pragma once

#include "kernels/neon/simd.h"

namespace rwkvcpp::kernels {
namespace {

struct NeonDotprod : Neon {
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    I sum = start;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      sum = vdotq_s32(sum, vreinterpretq_s8_u8(codes[g]), broadcast4(x + 4 * g));
    }
    return sum;
  }
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t) noexcept {
    return dot<127, n>(vdupq_n_s32(0), codes, x);
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
