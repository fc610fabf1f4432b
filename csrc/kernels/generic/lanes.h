// Loops over vectors of any length, with the same arithmetic in every element
// whatever the width of a register.
#pragma once

#include <cstddef>

#include "kernels/scalar/simd.h"

namespace rwkvcpp::kernels {
namespace {

/// Calls body(Simd{}, i) for whole registers, then for the single elements left.
template <class S, class Body>
void for_lanes(std::size_t n, Body body) noexcept {
  std::size_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) body(S{}, i);
  for (; i < n; ++i) body(Scalar{}, i);
}

/// A sum whose order no register width changes: element i goes to partial sum
/// i mod 16; the sixteen are added as a tree.
template <class S>
class StridedSum {
 public:
  static constexpr std::size_t kWays = 16;

  StridedSum() noexcept {
    for (auto& part : parts_) part = S::set(0.0f);
  }

  /// Adds term(Simd{}, i) for all i < n.
  template <class Term>
  float operator()(std::size_t n, Term term) noexcept {
    const std::size_t whole = n / kWays * kWays;
    for (std::size_t i = 0; i < whole; i += kWays) {
      for (std::size_t p = 0; p < kParts; ++p) {
        parts_[p] = S::add(parts_[p], term(S{}, i + p * S::kLanes));
      }
    }
    float ways[kWays];
    for (std::size_t p = 0; p < kParts; ++p) S::store(ways + p * S::kLanes, parts_[p]);
    for (std::size_t i = whole; i < n; ++i) ways[i - whole] += term(Scalar{}, i);
    for (std::size_t width = kWays / 2; width > 0; width /= 2) {
      for (std::size_t i = 0; i < width; ++i) ways[i] += ways[i + width];
    }
    return ways[0];
  }

 private:
  static constexpr std::size_t kParts = kWays / S::kLanes;
  typename S::F parts_[kParts];
};

template <class S, class Term>
float sum_over(std::size_t n, Term term) noexcept {
  return StridedSum<S>()(n, term);
}

}  // namespace
}  // namespace rwkvcpp::kernels
