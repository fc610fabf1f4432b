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

/// Calls body(Simd{}, i) over the lanes of a head: pairs, single registers, elements.
template <class S, class Body>
void for_head_lanes(std::size_t n, Body body) noexcept {
  const std::size_t paired = n / Pair<S>::kLanes * Pair<S>::kLanes;
  for (std::size_t i = 0; i < paired; i += Pair<S>::kLanes) body(Pair<S>{}, i);
  for_lanes<S>(n - paired, [&](auto simd, std::size_t i) { body(simd, paired + i); });
}

template <class S>
float dot(const float* a, const float* b, std::size_t n) noexcept {
  return sum_over<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    return V::mul(V::load(a + i), V::load(b + i));
  });
}

}  // namespace
}  // namespace rwkvcpp::kernels
