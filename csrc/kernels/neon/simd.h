// NEON (ARMv8.0): four lanes, on every 64-bit ARM processor.
//
// Without a dot product instruction, products of bytes widen to 16 bits and are
// added in pairs; codes below 64 are non-negative as signed bytes, so all products
// are signed by signed.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rwkvcpp::kernels {
namespace {

struct Neon {
  static constexpr std::size_t kLanes = 4;
  static constexpr std::size_t kMaxRows = 4;
  static constexpr bool kWide = false;              // registers for the codes of two tiles
  static constexpr std::size_t kHeadRegisters = 4;  // values of a head that a recurrence keeps
  using F = float32x4_t;
  using I = int32x4_t;
  using Bytes = uint8x16_t;

  static F load(const float* p) noexcept { return vld1q_f32(p); }
  static void store(float* p, F v) noexcept { vst1q_f32(p, v); }
  static F set(float v) noexcept { return vdupq_n_f32(v); }
  static F load_f16(const std::uint16_t* p) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
  }
  static F add(F a, F b) noexcept { return vaddq_f32(a, b); }
  static F sub(F a, F b) noexcept { return vsubq_f32(a, b); }
  static F mul(F a, F b) noexcept { return vmulq_f32(a, b); }
  static F div(F a, F b) noexcept { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) noexcept { return vfmaq_f32(c, a, b); }
  static F where_less(F a, F b, F yes, F no) noexcept {
    return vbslq_f32(vcltq_f32(a, b), yes, no);
  }

  static I set_int(std::int32_t v) noexcept { return vdupq_n_s32(v); }
  static I as_int(F v) noexcept { return vreinterpretq_s32_f32(v); }
  static F as_float(I v) noexcept { return vreinterpretq_f32_s32(v); }
  static F to_float(I v) noexcept { return vcvtq_f32_s32(v); }
  static I to_int(F v) noexcept { return vcvtnq_s32_f32(v); }
  static I add(I a, I b) noexcept { return vaddq_s32(a, b); }
  static I sub(I a, I b) noexcept { return vsubq_s32(a, b); }
  static I mul(I a, I b) noexcept { return vmulq_s32(a, b); }
  static I bit_and(I a, I b) noexcept { return vandq_s32(a, b); }
  static I bit_or(I a, I b) noexcept { return vorrq_s32(a, b); }
  static I max(I a, I b) noexcept { return vmaxq_s32(a, b); }
  template <int n>
  static I shift_left(I v) noexcept {
    return vshlq_n_s32(v, n);
  }
  template <int n>
  static I shift_right(I v) noexcept {
    return vshlq_s32(v, vdupq_n_s32(-n));
  }
  static std::int32_t sum_lanes(I v) noexcept { return vaddvq_s32(v); }
  static std::int32_t max_lanes(I v) noexcept { return vmaxvq_s32(v); }
  static I load_i8(const std::int8_t* p) noexcept {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)))));
  }
  static void store_i8(std::int8_t* p, I v) noexcept {
    const int16x4_t words = vmovn_s32(v);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    const std::int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    std::memcpy(p, &four, sizeof four);
  }

  static Bytes load_bytes(const void* p) noexcept {
    return vld1q_u8(static_cast<const std::uint8_t*>(p));
  }
  template <int shift>
  static Bytes field(Bytes v, std::uint8_t mask) noexcept {
    return vandq_u8(vshlq_u8(v, vdupq_n_s8(-shift)), vdupq_n_u8(mask));
  }
  /// Makes the compiler believe that v changes here, for benchmarks.
  static void touch(I& v) noexcept { asm volatile("" : "+w"(v)); }
  static Bytes or_field(Bytes a, Bytes b) noexcept { return vorrq_u8(a, b); }
  static I bytes_as_int(Bytes v) noexcept { return vreinterpretq_s32_u8(v); }
  static Bytes lookup(const std::int8_t (&table)[16], Bytes v) noexcept {
    return vqtbl1q_u8(vreinterpretq_u8_s8(vld1q_s8(table)), v);
  }

  static Bytes interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                          const std::uint8_t* d) noexcept {
    const std::uint32_t words[] = {load_32(a), load_32(b), load_32(c), load_32(d)};
    constexpr std::uint8_t order[] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vqtbl1q_u8(vreinterpretq_u8_u32(vld1q_u32(words)), vld1q_u8(order));
  }
  template <std::size_t k>
  static Bytes interleave_slice(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                const std::uint8_t* d, std::size_t lane) noexcept {
    const uint16x8_t first = unpack<k / 2>(load_bytes(a + 4 * lane), load_bytes(b + 4 * lane));
    const uint16x8_t last = unpack<k / 2>(load_bytes(c + 4 * lane), load_bytes(d + 4 * lane));
    return vreinterpretq_u8_u16(k % 2 == 0 ? vzip1q_u16(first, last) : vzip2q_u16(first, last));
  }
  static std::uint32_t nonzero(const std::int8_t* x) noexcept {
    constexpr std::uint8_t bits[] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    std::uint32_t mask = 0;
    for (int half = 0; half < 2; ++half) {
      const int8x16_t v = vld1q_s8(x + 16 * half);
      const uint8x16_t set = vandq_u8(vtstq_s8(v, v), vld1q_u8(bits));
      const std::uint32_t low = vaddv_u8(vget_low_u8(set)), high = vaddv_u8(vget_high_u8(set));
      mask |= (low | high << 8) << (16 * half);
    }
    return mask;
  }

  static I dot_pairs(I a, const std::int16_t* x) noexcept {
    const int16x8_t halves = vreinterpretq_s16_s32(a);
    const int16x4_t pair = vreinterpret_s16_u32(vdup_n_u32(load_32(x)));
    return vpaddq_s32(vmull_s16(vget_low_s16(halves), pair),
                      vmull_s16(vget_high_s16(halves), pair));
  }
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    I sum = start;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < n; ++g) {
      sum = vaddq_s32(sum, dot4(vreinterpretq_s8_u8(codes[g]), broadcast4(x + 4 * g)));
    }
    return sum;
  }
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t) noexcept {
    return dot<127, n>(vdupq_n_s32(0), codes, x);
  }

  static int8x16_t broadcast4(const std::int8_t* x) noexcept {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }

 private:
  template <std::size_t half>
  static uint16x8_t unpack(Bytes a, Bytes b) noexcept {
    return vreinterpretq_u16_u8(half == 0 ? vzip1q_u8(a, b) : vzip2q_u8(a, b));
  }
  static std::uint32_t load_32(const void* p) noexcept {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    return four;
  }
  static I dot4(int8x16_t codes, int8x16_t x) noexcept {
    // Two products of up to 128 * 127 would overflow 16 bits, so pairs widen first.
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(codes), vget_high_s8(x)));
    return vpaddq_s32(low, high);
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
