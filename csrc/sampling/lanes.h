// Four floats that the compiler adds, multiplies and compares at once, on every CPU.
//
// GCC's and Clang's vector types, not intrinsics: SSE2 on any x86-64, NEON on any aarch64. All
// arithmetic is per element and IEEE, so the results are the same to the last bit everywhere
// (built with -ffp-contract=off, as all of rwkvcpp is).
#pragma once

#include <cstdint>
#include <cstring>

namespace rwkvcpp {

using Float4 = float __attribute__((vector_size(16)));
using Int4 = std::int32_t __attribute__((vector_size(16)));    // what a comparison gives: 0, -1
using Bits4 = std::uint32_t __attribute__((vector_size(16)));  // unsigned, so that it may wrap

inline Float4 load4(const float* from) noexcept {
  Float4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

inline void store4(Float4 v, float* to) noexcept { std::memcpy(to, &v, sizeof(v)); }

inline Float4 all4(float value) noexcept { return Float4{value, value, value, value}; }

inline Bits4 bits4(Float4 v) noexcept { return reinterpret_cast<Bits4>(v); }
inline Float4 floats4(Bits4 bits) noexcept { return reinterpret_cast<Float4>(bits); }

/// The elements of `v` where `mask` is set, 0 elsewhere.
inline Float4 only4(Int4 mask, Float4 v) noexcept {
  return floats4(reinterpret_cast<Bits4>(mask) & bits4(v));
}

inline Float4 max4(Float4 a, Float4 b) noexcept { return a > b ? a : b; }

}  // namespace rwkvcpp
