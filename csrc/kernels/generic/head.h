// What the recurrences of RWKV-5 to 7 share: a head's value lanes taken a few
// registers at a time, and the head's output normalized and gated.
#pragma once

#include "kernels/generic/lanes.h"
#include "kernels/generic/norm.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {
namespace {

/// Two registers side by side (more outputs in flight hide the latency of their
/// chains of fused multiply-adds), with one register's operations.
template <class S>
struct Pair {
  static constexpr std::size_t kLanes = 2 * S::kLanes;
  struct F {
    typename S::F low, high;
  };
  static F load(const float* p) noexcept { return {S::load(p), S::load(p + S::kLanes)}; }
  static void store(float* p, F v) noexcept {
    S::store(p, v.low);
    S::store(p + S::kLanes, v.high);
  }
  static F set(float v) noexcept { return {S::set(v), S::set(v)}; }
  static F mul(F a, F b) noexcept { return {S::mul(a.low, b.low), S::mul(a.high, b.high)}; }
  static F fma(F a, F b, F c) noexcept {
    return {S::fma(a.low, b.low, c.low), S::fma(a.high, b.high, c.high)};
  }
};

/// n registers side by side, n a power of two.
template <class S, std::size_t n>
struct SideBySide {
  using Simd = Pair<typename SideBySide<S, n / 2>::Simd>;
};
template <class S>
struct SideBySide<S, 1> {
  using Simd = S;
};

/// Calls body(Simd{}, i) over the lanes of a head: as many registers as the instruction
/// set has to spare, single registers, elements.
template <class S, class Body>
void for_head_lanes(std::size_t n, Body body) noexcept {
  using Wide = typename SideBySide<S, S::kHeadRegisters>::Simd;
  const std::size_t whole = n / Wide::kLanes * Wide::kLanes;
  for (std::size_t i = 0; i < whole; i += Wide::kLanes) body(Wide{}, i);
  for_lanes<S>(n - whole, [&](auto simd, std::size_t i) { body(simd, whole + i); });
}

}  // namespace
}  // namespace rwkvcpp::kernels
