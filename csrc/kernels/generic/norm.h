// Layer norm, and group norm as layer norm of one head: biased variance, two passes.
#pragma once

#include <cmath>

#include "kernels/generic/lanes.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
void layer_norm(const LayerNormArgs& a) noexcept {
  const auto count = static_cast<float>(a.n);
  const float mean =
      sum_over<S>(a.n, [&](auto s, std::size_t i) { return decltype(s)::load(a.x + i); }) / count;
  const float variance = sum_over<S>(a.n,
                                     [&](auto simd, std::size_t i) {
                                       using V = decltype(simd);
                                       const auto centred = V::sub(V::load(a.x + i), V::set(mean));
                                       return V::mul(centred, centred);
                                     }) /
                         count;
  const float inverse = 1.0f / std::sqrt(variance + a.eps);
  for_lanes<S>(a.n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto centred = V::sub(V::load(a.x + i), V::set(mean));
    const auto unit = V::mul(centred, V::set(inverse));
    V::store(a.out + i, V::fma(unit, V::load(a.weight + i), V::load(a.bias + i)));
  });
}

}  // namespace
}  // namespace rwkvcpp::kernels
