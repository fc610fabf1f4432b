#include "sampling/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>

#include "kernels/dispatch.h"

namespace rwkvcpp {
namespace {

using kernels::active_table;

// Finite, so that the largest logit, 0 below the maximum, has exponential 1 at any scale.
float powers_per_logit(float scale) noexcept {
  constexpr float kLog2E = 1.44269504f;
  return std::min(scale * kLog2E, std::numeric_limits<float>::max());
}

// Where a kernel puts the sums of n values.
double* blocks_for(std::size_t n, Mass& mass) {
  mass.blocks.resize(n / kSumBlock);
  return mass.blocks.data();
}

void add_blocks(Mass& mass) noexcept {
  mass.total = std::accumulate(mass.blocks.begin(), mass.blocks.end(), 0.0);
}

// The next larger float of one that is not negative.
float next(float value) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) + 1);
}

std::size_t count_at_least(float bound, std::span<const float> values) {
  return active_table().count_at_least(bound, values.data(), values.size());
}

std::size_t drop_below(float bound, std::span<float> values) {
  return active_table().drop_below(bound, values.data(), values.size());
}

// Halves [low, high), which holds the k-th largest value, until few values are left in it to sort.
// Floats that are not negative are ordered as their bits are, which tells exponents apart first.
// None of k values is above 1, and none of the others above the k-th: so that is no less than
// (total - k) / n, which saves most of the way when all are about equal. (A thousandth off, for
// rounding.)
float kth_largest(std::size_t k, std::span<const float> values, double total) {
  constexpr std::size_t kFew = 1024;
  const auto n_values = static_cast<double>(values.size());
  const double bound = 0.999 * (total - static_cast<double>(k)) / n_values;
  auto low = std::bit_cast<std::uint32_t>(static_cast<float>(std::max(0.0, bound)));
  auto high = std::bit_cast<std::uint32_t>(1.0f) + 1;
  std::size_t n_low = values.size();  // values at or above low, or more
  std::size_t n_high = 0;
  while (n_low - n_high > kFew && high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    const std::size_t n = count_at_least(std::bit_cast<float>(middle), values);
    (n >= k ? low : high) = middle;
    (n >= k ? n_low : n_high) = n;
  }
  if (high - low == 1) return std::bit_cast<float>(low);  // all that are left are equal
  std::array<float, kFew> left;
  const std::size_t n_left =
      active_table().between(std::bit_cast<float>(low), std::bit_cast<float>(high), values.data(),
                             values.size(), left.data());
  const auto kth = left.begin() + static_cast<std::ptrdiff_t>(k - n_high - 1);
  std::nth_element(left.begin(), kth, left.begin() + static_cast<std::ptrdiff_t>(n_left),
                   std::greater<>());
  return *kth;
}

// Sets to zero the last n of the values equal to `least`, which no value but zeros is below: a
// block at a time, until one holds more of them than are left to drop.
void drop_last(std::size_t n, float least, std::span<float> values) {
  const float above = next(least);
  for (std::size_t end = values.size(); n > 0; end -= kSumBlock) {
    const std::span<float> block = values.subspan(end - kSumBlock, kSumBlock);
    const std::size_t n_equal = count_equal(least, block);
    if (n_equal <= n) {
      drop_below(above, block);
      n -= n_equal;
      continue;
    }
    for (std::size_t i = kSumBlock; n > 0; --i) {
      if (block[i - 1] != least) continue;
      block[i - 1] = 0.0f;
      --n;
    }
  }
}

}  // namespace

Maximum find_maximum(std::span<const float> row) {
  return active_table().find_maximum(row.data(), row.size());
}

void exponentials(std::span<const float> logits, float max, float scale, std::span<float> out,
                  Mass& mass) {
  active_table().exponentials({logits.data(), max, powers_per_logit(scale), nullptr, 0.0f,
                               logits.size(), out.data(), blocks_for(logits.size(), mass)});
  add_blocks(mass);
}

void exponentials_above(std::span<const float> logits, float max, float scale,
                        std::span<const float> keys, float floor, std::span<float> out,
                        Mass& mass) {
  active_table().exponentials({logits.data(), max, powers_per_logit(scale), keys.data(), floor,
                               logits.size(), out.data(), blocks_for(logits.size(), mass)});
  add_blocks(mass);
}

void sum_above(std::span<const float> values, std::span<const float> keys, float floor,
               Mass& mass) {
  active_table().sum_above(
      {values.data(), keys.data(), floor, values.size(), blocks_for(values.size(), mass)});
  add_blocks(mass);
}

std::size_t count_equal(float value, std::span<const float> values) {
  return count_at_least(value, values) - count_at_least(next(value), values);
}

void keep_largest(std::size_t k, std::span<float> values, double total) {
  if (k >= values.size()) return;
  const float kth = kth_largest(k, values, total);
  if (kth == 0.0f) return;  // fewer than k are above zero
  const std::size_t n_kept = drop_below(kth, values);
  if (n_kept > k) drop_last(n_kept - k, kth, values);
}

}  // namespace rwkvcpp
