// AVX2 + FMA + F16C: eight lanes of 32 bits. Every x86 processor since Haswell
// (2013) and Zen (2017) has them.
//
// There is no four-way dot product yet: maddubs multiplies unsigned by signed
// bytes and adds pairs, saturating at 16 bits, so codes below 64 may gather a few
// groups before they are widened, and signed codes lend their sign to x.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rwkvcpp::kernels {
namespace {

struct Avx2 {
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kMaxRows = 4;
  static constexpr bool kWide = false;              // registers for the codes of two tiles
  static constexpr std::size_t kHeadRegisters = 2;  // values of a head that a recurrence keeps
  using F = __m256;
  using I = __m256i;
  using Bytes = __m256i;

  static F load(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) noexcept { _mm256_storeu_ps(p, v); }
  static F set(float v) noexcept { return _mm256_set1_ps(v); }
  static F load_f16(const std::uint16_t* p) noexcept { return _mm256_cvtph_ps(load_128(p)); }
  static F load_bf16(const std::uint16_t* p) noexcept {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
  }
  static F add(F a, F b) noexcept { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm256_fmadd_ps(a, b, c); }
  static F where_less(F a, F b, F yes, F no) noexcept {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }

  static I set_int(std::int32_t v) noexcept { return _mm256_set1_epi32(v); }
  static I as_int(F v) noexcept { return _mm256_castps_si256(v); }
  static F as_float(I v) noexcept { return _mm256_castsi256_ps(v); }
  static F to_float(I v) noexcept { return _mm256_cvtepi32_ps(v); }
  static I to_int(F v) noexcept { return _mm256_cvtps_epi32(v); }
  static I add(I a, I b) noexcept { return _mm256_add_epi32(a, b); }
  static I sub(I a, I b) noexcept { return _mm256_sub_epi32(a, b); }
  static I mul(I a, I b) noexcept { return _mm256_mullo_epi32(a, b); }
  static I bit_and(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  static I bit_or(I a, I b) noexcept { return _mm256_or_si256(a, b); }
  static I max(I a, I b) noexcept { return _mm256_max_epi32(a, b); }
  template <int n>
  static I shift_left(I v) noexcept {
    return _mm256_slli_epi32(v, n);
  }
  template <int n>
  static I shift_right(I v) noexcept {
    return _mm256_srai_epi32(v, n);
  }
  static std::int32_t sum_lanes(I v) noexcept {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  static std::int32_t max_lanes(I v) noexcept {
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  static I load_i8(const std::int8_t* p) noexcept {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_i8(std::int8_t* p, I v) noexcept {  // values within int8
    const __m256i words = _mm256_packs_epi32(v, v);
    const __m256i bytes = _mm256_packs_epi16(words, words);
    const std::uint32_t low = static_cast<std::uint32_t>(_mm256_extract_epi32(bytes, 0));
    const std::uint32_t high = static_cast<std::uint32_t>(_mm256_extract_epi32(bytes, 4));
    std::memcpy(p, &low, 4);
    std::memcpy(p + 4, &high, 4);
  }

  static Bytes load_bytes(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  template <int shift>
  static Bytes field(Bytes v, std::uint8_t mask) noexcept {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    if constexpr (shift > 0) {
      return _mm256_and_si256(_mm256_srli_epi16(v, shift), m);
    } else if constexpr (shift < 0) {
      return _mm256_and_si256(_mm256_slli_epi16(v, -shift), m);
    } else {
      return _mm256_and_si256(v, m);
    }
  }
  /// Makes the compiler believe that v changes here, for benchmarks.
  static void touch(I& v) noexcept { asm volatile("" : "+x"(v)); }
  static Bytes or_field(Bytes a, Bytes b) noexcept { return _mm256_or_si256(a, b); }
  static I bytes_as_int(Bytes v) noexcept { return v; }
  static Bytes lookup(const std::int8_t (&table)[16], Bytes v) noexcept {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), v);
  }

  static Bytes interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                          const std::uint8_t* d) noexcept {
    const __m128i pairs = _mm_unpacklo_epi8(load_64(a), load_64(b));
    const __m128i others = _mm_unpacklo_epi8(load_64(c), load_64(d));
    return _mm256_set_m128i(_mm_unpackhi_epi16(pairs, others), _mm_unpacklo_epi16(pairs, others));
  }
  template <std::size_t k>
  static Bytes interleave_slice(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                const std::uint8_t* d, std::size_t lane) noexcept {
    const Bytes first = unpack<k / 2>(load_bytes(a + 4 * lane), load_bytes(b + 4 * lane));
    const Bytes last = unpack<k / 2>(load_bytes(c + 4 * lane), load_bytes(d + 4 * lane));
    return k % 2 == 0 ? _mm256_unpacklo_epi16(first, last) : _mm256_unpackhi_epi16(first, last);
  }
  static std::uint32_t nonzero(const std::int8_t* x) noexcept {
    const __m256i zero = _mm256_cmpeq_epi8(load_bytes(x), _mm256_setzero_si256());
    return ~static_cast<std::uint32_t>(_mm256_movemask_epi8(zero));
  }

  static I dot_pairs(I a, const std::int16_t* x) noexcept {
    return _mm256_madd_epi16(a, _mm256_set1_epi32(load_32(x)));
  }
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    constexpr std::size_t run = 32767 / (2 * 127 * max_code);  // groups that 16 bits can hold
    static_assert(run >= 1);
    I sum = start;
    __m256i pairs = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      const __m256i products = _mm256_maddubs_epi16(codes[g], broadcast4(x + 4 * g));
      pairs = g % run == 0 ? products : _mm256_add_epi16(pairs, products);
      if (g % run == run - 1 || g == n - 1) sum = _mm256_add_epi32(sum, widen(pairs));
    }
    return sum;
  }
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t) noexcept {
    I sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      const __m256i signed_x = _mm256_sign_epi8(broadcast4(x + 4 * g), codes[g]);
      const __m256i products = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[g]), signed_x);
      sum = _mm256_add_epi32(sum, widen(products));  // 2 * 128 * 127 < 2^15
    }
    return sum;
  }

  static __m256i broadcast4(const std::int8_t* x) noexcept {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }

 private:
  static __m128i load_64(const void* p) noexcept {
    return _mm_loadl_epi64(static_cast<const __m128i*>(p));
  }
  static std::int32_t load_32(const void* p) noexcept {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return four;
  }
  static __m128i load_128(const void* p) noexcept {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  }
  template <std::size_t half>
  static Bytes unpack(Bytes a, Bytes b) noexcept {
    return half == 0 ? _mm256_unpacklo_epi8(a, b) : _mm256_unpackhi_epi8(a, b);
  }
  static __m256i widen(__m256i pairs) noexcept {
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
