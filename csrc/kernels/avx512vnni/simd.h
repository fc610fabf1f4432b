// AVX-512 (F, BW, DQ, VL) with VNNI: sixteen lanes, a whole tile in one register.
// Ice Lake (2019), Zen 4 (2022) and later.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rwkvcpp::kernels {
namespace {

struct Avx512Vnni {
  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kMaxRows = 16;
  static constexpr bool kWide = true;               // registers for the codes of two tiles
  static constexpr std::size_t kHeadRegisters = 4;  // values of a head that a recurrence keeps
  using F = __m512;
  using I = __m512i;
  using Bytes = __m512i;

  static F load(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) noexcept { _mm512_storeu_ps(p, v); }
  static F set(float v) noexcept { return _mm512_set1_ps(v); }
  static F load_f16(const std::uint16_t* p) noexcept { return _mm512_cvtph_ps(load_256(p)); }
  static F load_bf16(const std::uint16_t* p) noexcept {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(p)), 16));
  }
  static F add(F a, F b) noexcept { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  static F where_less(F a, F b, F yes, F no) noexcept {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
  }

  /// Sixteen rows of sixteen floats become its columns: pairs, fours, then quarters of registers.
  static void transpose(F (&rows)[16]) noexcept {
    F fours[16];
    for (int i = 0; i < 16; i += 4) {
      const __m512d low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i], rows[i + 1]));
      const __m512d high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i], rows[i + 1]));
      const __m512d low2 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2], rows[i + 3]));
      const __m512d high2 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2], rows[i + 3]));
      fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
      fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
      fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
      fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
    }
    for (int i = 0; i < 4; ++i) {
      const F even0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x88);
      const F odd0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xDD);
      const F even1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x88);
      const F odd1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xDD);
      rows[i] = _mm512_shuffle_f32x4(even0, even1, 0x88);
      rows[i + 4] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
      rows[i + 8] = _mm512_shuffle_f32x4(even0, even1, 0xDD);
      rows[i + 12] = _mm512_shuffle_f32x4(odd0, odd1, 0xDD);
    }
  }

  static I set_int(std::int32_t v) noexcept { return _mm512_set1_epi32(v); }
  static I as_int(F v) noexcept { return _mm512_castps_si512(v); }
  static F as_float(I v) noexcept { return _mm512_castsi512_ps(v); }
  static F to_float(I v) noexcept { return _mm512_cvtepi32_ps(v); }
  static I to_int(F v) noexcept { return _mm512_cvtps_epi32(v); }
  static I add(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
  static I sub(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
  static I mul(I a, I b) noexcept { return _mm512_mullo_epi32(a, b); }
  static I bit_and(I a, I b) noexcept { return _mm512_and_si512(a, b); }
  static I bit_or(I a, I b) noexcept { return _mm512_or_si512(a, b); }
  static I max(I a, I b) noexcept { return _mm512_max_epi32(a, b); }
  template <int n>
  static I shift_left(I v) noexcept {
    return _mm512_slli_epi32(v, n);
  }
  template <int n>
  static I shift_right(I v) noexcept {
    return _mm512_srai_epi32(v, n);
  }
  /// Wraps around, as the compiler's own reduction may not: the codes of a NaN are all -2^31.
  static std::int32_t sum_lanes(I v) noexcept {
    const __m256i eight =
        _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    const __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  static std::int32_t max_lanes(I v) noexcept { return _mm512_reduce_max_epi32(v); }
  static I load_i8(const std::int8_t* p) noexcept {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_i8(std::int8_t* p, I v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }

  static Bytes load_bytes(const void* p) noexcept { return _mm512_loadu_si512(p); }
  template <int shift>
  static Bytes field(Bytes v, std::uint8_t mask) noexcept {
    const __m512i m = _mm512_set1_epi8(static_cast<char>(mask));
    if constexpr (shift > 0) {
      return _mm512_and_si512(_mm512_srli_epi16(v, shift), m);
    } else if constexpr (shift < 0) {
      return _mm512_and_si512(_mm512_slli_epi16(v, -shift), m);
    } else {
      return _mm512_and_si512(v, m);
    }
  }
  /// Makes the compiler believe that v changes here, for benchmarks.
  static void touch(I& v) noexcept { asm volatile("" : "+v"(v)); }
  static Bytes or_field(Bytes a, Bytes b) noexcept { return _mm512_or_si512(a, b); }
  static Bytes flip_signs(Bytes v) noexcept {
    return _mm512_xor_si512(v, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  static I dot4(I sum, Bytes codes, Bytes x) noexcept { return _mm512_dpbusd_epi32(sum, codes, x); }
  static __m512i broadcast4(const std::int8_t* x) noexcept {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static I bytes_as_int(Bytes v) noexcept { return v; }
  static Bytes lookup(const std::int8_t (&table)[16], Bytes v) noexcept {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_128(table)), v);
  }

  static Bytes interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                          const std::uint8_t* d) noexcept {
    __m512i v = _mm512_castsi128_si512(load_128(a));
    v = _mm512_inserti32x4(v, load_128(b), 1);
    v = _mm512_inserti32x4(v, load_128(c), 2);
    v = _mm512_inserti32x4(v, load_128(d), 3);
    const __m512i fours = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(fours, v), _mm512_broadcast_i32x4(order()));
  }
  template <std::size_t k>
  static Bytes interleave_slice(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                const std::uint8_t* d, std::size_t) noexcept {
    const Bytes first = unpack<k / 2>(load_bytes(a), load_bytes(b));
    const Bytes last = unpack<k / 2>(load_bytes(c), load_bytes(d));
    return k % 2 == 0 ? _mm512_unpacklo_epi16(first, last) : _mm512_unpackhi_epi16(first, last);
  }
  static std::uint32_t nonzero(const std::int8_t* x) noexcept {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    return _mm256_test_epi8_mask(bytes, bytes);
  }

  static I dot_pairs(I a, const std::int16_t* x) noexcept {
    return _mm512_madd_epi16(a, _mm512_set1_epi32(load_32(x)));
  }
  // Two chains halve the wait for the sum; integer sums may be cut anywhere.
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    I sums[2] = {start, _mm512_setzero_si512()};
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      sums[g % 2] = _mm512_dpbusd_epi32(sums[g % 2], codes[g], broadcast4(x + 4 * g));
    }
    return n > 1 ? _mm512_add_epi32(sums[0], sums[1]) : sums[0];
  }
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t x_sum) noexcept {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    Bytes flipped[n];
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) flipped[g] = _mm512_xor_si512(codes[g], flip);
    return dot<255, n>(_mm512_set1_epi32(-128 * x_sum), flipped, x);
  }

 private:
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
    return half == 0 ? _mm512_unpacklo_epi8(a, b) : _mm512_unpackhi_epi8(a, b);
  }
  /// A 4 x 4 matrix of bytes transposed.
  static __m128i order() noexcept {
    return _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  }
  static __m256i load_256(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
