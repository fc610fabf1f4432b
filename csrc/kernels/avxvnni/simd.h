// AVX2 with the four-way dot product of VNNI at 256 bits: Alder Lake (2021) and
// Zen 5 as AVX-VNNI; the same operations at AVX-512VL's encoding in avxvnni_evex.
//
// vpdpbusd takes unsigned by signed bytes without saturating. Signed codes become
// unsigned by flipping the top bit (+ 128), which 128 times the sum of x takes back.
#pragma once

#include "kernels/avx2/simd.h"

namespace rwkvcpp::kernels {
namespace {

struct AvxVnni : Avx2 {
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    I sum = start;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) sum = dot4(sum, codes[g], broadcast4(x + 4 * g));
    return sum;
  }
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t x_sum) noexcept {
    const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80));
    I sum = _mm256_set1_epi32(-128 * x_sum);
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      sum = dot4(sum, _mm256_xor_si256(codes[g], flip), broadcast4(x + 4 * g));
    }
    return sum;
  }

 private:
  static I dot4(I sum, Bytes codes, Bytes x) noexcept {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, codes, x);
#else
    return _mm256_dpbusd_epi32(sum, codes, x);
#endif
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
