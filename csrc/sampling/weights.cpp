#include "sampling/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>

#include "sampling/lanes.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kLanes = 16;
using Lanes = std::array<Float4, kLanes / 4>;  // four chains of additions, to hide their latency

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// 2^x for x <= 0: x = n + f with |f| <= 1/2, then 2^n * 2^f. 0 below 2^-125.
Float4 power_of_two(Float4 x) noexcept {
  constexpr float kSmallest = -125.0f;  // what is below it, -inf too, is nonsense until masked
  // Adding 1.5 * 2^23 rounds to an integer, and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  // Of all polynomials 1 + c0 f + ... + c4 f^5 the one with the least relative error, 9e-8.
  constexpr std::array<float, 5> kC = {0.693146978f, 0.240222421f, 0.0555073374f, 0.00967151305f,
                                       0.00132647284f};
  const Float4 shifted = x + kRound;
  const Float4 f = x - (shifted - kRound);
  const Float4 p = 1.0f + f * (kC[0] + f * (kC[1] + f * (kC[2] + f * (kC[3] + f * kC[4]))));
  const Float4 power = floats4((bits4(shifted) << 23) + bits4(all4(1.0f)));
  return only4(x >= kSmallest, p * power);
}

// Finite, so that the largest logit, 0 below the maximum, has exponential 1 at any scale.
float powers_per_logit(float scale) noexcept {
  constexpr float kLog2E = 1.44269504f;
  return std::min(scale * kLog2E, kLargest);
}

float add_lanes(const Lanes& lanes) noexcept {
  const Float4 sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// Sums four_at(0), four_at(4), ... up to n into `mass`: the one order of additions that there is.
template <typename FourAt>
void sum_blocks(Mass& mass, std::size_t n, FourAt four_at) {
  mass.blocks.resize(n / kSumBlock);
  mass.total = 0.0;
  for (std::size_t block = 0; block < mass.blocks.size(); ++block) {
    const std::size_t end = (block + 1) * kSumBlock;
    Lanes lanes{};
    for (std::size_t at = block * kSumBlock; at < end; at += kLanes) {
      for (std::size_t i = 0; i < lanes.size(); ++i) lanes[i] += four_at(at + 4 * i);
    }
    mass.blocks[block] = add_lanes(lanes);
    mass.total += mass.blocks[block];
  }
}

bool holds_for_any(Int4 holds) noexcept { return (holds[0] | holds[1] | holds[2] | holds[3]) != 0; }

bool holds_for_all(Int4 holds) noexcept { return (holds[0] & holds[1] & holds[2] & holds[3]) != 0; }

// Adds up comparisons, which are -1 where they hold.
std::size_t count(Int4 holds) noexcept {
  return static_cast<std::size_t>(-(holds[0] + holds[1] + holds[2] + holds[3]));
}

std::size_t count_at_least(float bound, std::span<const float> values) noexcept {
  std::array<Int4, kLanes / 4> holds{};
  for (std::size_t begin = 0; begin < values.size(); begin += kLanes) {
    for (std::size_t i = 0; i < holds.size(); ++i) {
      holds[i] += load4(&values[begin + 4 * i]) >= bound;
    }
  }
  return count((holds[0] + holds[1]) + (holds[2] + holds[3]));
}

// The values in [low, high). Sixteen at a time are passed over when none is: nearly always.
std::vector<float> between(float low, float high, std::span<const float> values) {
  std::vector<float> found;
  for (std::size_t begin = 0; begin < values.size(); begin += kLanes) {
    Int4 any{};
    for (std::size_t i = begin; i < begin + kLanes; i += 4) {
      const Float4 v = load4(&values[i]);
      any |= (v >= low) & (v < high);
    }
    if (!holds_for_any(any)) continue;
    std::copy_if(&values[begin], &values[begin] + kLanes, std::back_inserter(found),
                 [=](float value) { return value >= low && value < high; });
  }
  return found;
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
  std::vector<float> left = between(std::bit_cast<float>(low), std::bit_cast<float>(high), values);
  const auto kth = left.begin() + static_cast<std::ptrdiff_t>(k - n_high - 1);
  std::nth_element(left.begin(), kth, left.end(), std::greater<>());
  return *kth;
}

// Sets to zero what is below `bound`; the number of those that stay.
std::size_t drop_below(float bound, std::span<float> values) noexcept {
  Int4 holds{};
  for (std::size_t i = 0; i < values.size(); i += 4) {
    const Float4 v = load4(&values[i]);
    holds += v >= bound;
    store4(only4(v >= bound, v), &values[i]);
  }
  return count(holds);
}

}  // namespace

Maximum find_maximum(std::span<const float> row) noexcept {
  Lanes largest;
  largest.fill(all4(-kInfinity));
  std::array<Int4, largest.size()> numbers;
  numbers.fill(Int4{-1, -1, -1, -1});
  for (std::size_t begin = 0; begin < row.size(); begin += kLanes) {
    for (std::size_t i = 0; i < largest.size(); ++i) {
      const Float4 v = load4(&row[begin + 4 * i]);
      largest[i] = max4(v, largest[i]);
      numbers[i] &= v == v;
    }
  }
  const Float4 max = max4(max4(largest[0], largest[1]), max4(largest[2], largest[3]));
  return {std::max(std::max(max[0], max[1]), std::max(max[2], max[3])),
          holds_for_all(numbers[0] & numbers[1] & numbers[2] & numbers[3])};
}

void exponentials(std::span<const float> logits, float max, float scale, std::span<float> out,
                  Mass& mass) {
  const float to_powers = powers_per_logit(scale);
  sum_blocks(mass, logits.size(), [&](std::size_t i) {
    const Float4 value = power_of_two((load4(&logits[i]) - max) * to_powers);
    store4(value, &out[i]);
    return value;
  });
}

void exponentials_above(std::span<const float> logits, float max, float scale,
                        std::span<const float> keys, float floor, std::span<float> out,
                        Mass& mass) {
  const float to_powers = powers_per_logit(scale);
  sum_blocks(mass, logits.size(), [&](std::size_t i) {
    const Int4 wanted = load4(&keys[i]) > floor;
    Float4 value{};
    if (holds_for_any(wanted)) {
      value = only4(wanted, power_of_two((load4(&logits[i]) - max) * to_powers));
    }
    store4(value, &out[i]);
    return value;
  });
}

void sum_above(std::span<const float> values, std::span<const float> keys, float floor,
               Mass& mass) {
  sum_blocks(mass, values.size(),
             [&](std::size_t i) { return only4(load4(&keys[i]) > floor, load4(&values[i])); });
}

void keep_largest(std::size_t k, std::span<float> values, double total) {
  if (k >= values.size()) return;
  const float kth = kth_largest(k, values, total);
  if (kth == 0.0f) return;  // fewer than k are above zero
  std::size_t n_kept = drop_below(kth, values);
  for (std::size_t i = values.size(); n_kept > k; --i) {  // the last of those equal to the k-th go
    if (values[i - 1] != kth) continue;
    values[i - 1] = 0.0f;
    --n_kept;
  }
}

}  // namespace rwkvcpp
