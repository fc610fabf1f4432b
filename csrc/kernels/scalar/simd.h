// One lane, plain C++: the oracle that every other instruction set must equal
// bit for bit, and the tail of every vector loop.
//
// fmaf is the library's: fused even where the processor has no such instruction.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/half.h"

namespace rwkvcpp::kernels {
namespace {

struct Scalar {
  static constexpr std::size_t kLanes = 1;
  static constexpr std::size_t kMaxRows = 4;  // activation rows that a product keeps in registers
  static constexpr bool kWide = false;        // registers for the codes of two tiles
  static constexpr std::size_t kHeadRegisters = 1;  // values of a head that a recurrence keeps
  using F = float;
  using I = std::int32_t;
  using Bytes = std::uint32_t;  // four codes of one row

  static F load(const float* p) noexcept { return *p; }
  static void store(float* p, F v) noexcept { *p = v; }
  static F set(float v) noexcept { return v; }
  static F load_f16(const std::uint16_t* p) noexcept { return fp16_to_fp32(*p); }
  static F load_bf16(const std::uint16_t* p) noexcept { return bf16_to_fp32(*p); }
  static F add(F a, F b) noexcept { return a + b; }
  static F sub(F a, F b) noexcept { return a - b; }
  static F mul(F a, F b) noexcept { return a * b; }
  static F div(F a, F b) noexcept { return a / b; }
  static F fma(F a, F b, F c) noexcept { return __builtin_fmaf(a, b, c); }
  static F where_less(F a, F b, F yes, F no) noexcept { return a < b ? yes : no; }

  static I set_int(std::int32_t v) noexcept { return v; }
  static I as_int(F v) noexcept { return std::bit_cast<I>(v); }
  static F as_float(I v) noexcept { return std::bit_cast<F>(v); }
  static F to_float(I v) noexcept { return static_cast<F>(v); }
  /// Nearest even; for values beyond int32 any result will do.
  static I to_int(F v) noexcept {
    const F rounded = __builtin_rintf(v);
    return rounded >= -2147483648.0f && rounded < 2147483648.0f ? static_cast<I>(rounded)
                                                                : INT32_MIN;
  }
  static I add(I a, I b) noexcept {
    return static_cast<I>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  static I sub(I a, I b) noexcept {
    return static_cast<I>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
  }
  static I mul(I a, I b) noexcept { return a * b; }
  static I bit_and(I a, I b) noexcept { return a & b; }
  static I bit_or(I a, I b) noexcept { return a | b; }
  static I max(I a, I b) noexcept { return a > b ? a : b; }
  template <int n>
  static I shift_left(I v) noexcept {
    return static_cast<I>(static_cast<std::uint32_t>(v) << n);
  }
  template <int n>
  static I shift_right(I v) noexcept {  // arithmetic
    return v >> n;
  }
  static std::int32_t sum_lanes(I v) noexcept { return v; }
  static std::int32_t max_lanes(I v) noexcept { return v; }
  static I load_i8(const std::int8_t* p) noexcept { return *p; }
  static void store_i8(std::int8_t* p, I v) noexcept { *p = static_cast<std::int8_t>(v); }

  static Bytes load_bytes(const void* p) noexcept {
    Bytes v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  /// (byte >> shift) & mask in every byte; a negative shift goes left.
  template <int shift>
  static Bytes field(Bytes v, std::uint8_t mask) noexcept {
    return (shift >= 0 ? v >> (shift & 31) : v << (-shift & 31)) & (0x01010101u * mask);
  }
  /// Makes the compiler believe that v changes here, for benchmarks.
  static void touch(I& v) noexcept { asm volatile("" : "+r"(v)); }
  static Bytes or_field(Bytes a, Bytes b) noexcept { return a | b; }
  static I bytes_as_int(Bytes v) noexcept { return static_cast<I>(v); }
  /// table[byte] for every byte, 0 ... 15.
  static Bytes lookup(const std::int8_t (&table)[16], Bytes v) noexcept {
    Bytes found = 0;
    for (int at = 0; at < 32; at += 8) {
      found |= static_cast<Bytes>(static_cast<std::uint8_t>(table[(v >> at) & 0x0Fu])) << at;
    }
    return found;
  }

  /// Byte 4 r + i of the result: byte r of input i.
  static Bytes interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                          const std::uint8_t* d) noexcept {
    return static_cast<Bytes>(*a) | static_cast<Bytes>(*b) << 8 | static_cast<Bytes>(*c) << 16 |
           static_cast<Bytes>(*d) << 24;
  }
  /// The same for the rows of slice k, from `lane` on, of lines (quant/columns.h).
  template <std::size_t k>
  static Bytes interleave_slice(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                const std::uint8_t* d, std::size_t lane) noexcept {
    const std::size_t at = 16 * (lane / 4) + 4 * k + lane % 4;
    return interleave(a + at, b + at, c + at, d + at);
  }
  /// Bit i: x[i] is not zero, for 32 bytes.
  static std::uint32_t nonzero(const std::int8_t* x) noexcept {
    std::uint32_t mask = 0;
    for (std::size_t i = 0; i < 32; ++i) mask |= static_cast<std::uint32_t>(x[i] != 0) << i;
    return mask;
  }

  /// The low half of a, as a 16-bit number, times x[0], and the high half times x[1].
  static I dot_pairs(I a, const std::int16_t* x) noexcept {
    return static_cast<std::int16_t>(a & 0xFFFF) * x[0] + (a >> 16) * x[1];
  }
  /// start + the four-way dot products of n groups of unsigned codes with x.
  template <int max_code, std::size_t n>
  static I dot(I start, const Bytes* codes, const std::int8_t* x) noexcept {
    I sum = start;
    for (std::size_t g = 0; g < n; ++g) {
      for (std::size_t i = 0; i < 4; ++i) {
        sum += static_cast<I>((codes[g] >> (8 * i)) & 0xFFu) * x[4 * g + i];
      }
    }
    return sum;
  }
  /// The same for signed codes; x_sum is the sum of all x.
  template <std::size_t n>
  static I dot_signed(const Bytes* codes, const std::int8_t* x, std::int32_t) noexcept {
    I sum = 0;
    for (std::size_t g = 0; g < n; ++g) {
      for (std::size_t i = 0; i < 4; ++i) {
        sum += static_cast<std::int8_t>((codes[g] >> (8 * i)) & 0xFFu) * x[4 * g + i];
      }
    }
    return sum;
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
