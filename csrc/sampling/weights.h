// The loops over the whole vocabulary: maximum, exponentials, sums above a floor, the k largest.
//
// The loops themselves are kernels. A sum runs in sixteen lanes over blocks of fixed size, so its
// additions have one order, and the token drawn by it is the same on every CPU. Rows must be
// `padded`.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/kernel_table.h"

namespace rwkvcpp {

using kernels::kSumBlock;
using kernels::Maximum;

/// `n` rounded up to whole blocks.
constexpr std::size_t padded(std::size_t n) noexcept {
  return (n + kSumBlock - 1) / kSumBlock * kSumBlock;
}

Maximum find_maximum(std::span<const float> row);

/// Sums over a row: of each block, and of all.
struct Mass {
  std::vector<double> blocks;
  double total = 0.0;
};

/// out[i] = exp(x) with x = (logits[i] - max) * scale, and 0 below e^-86.6; its relative error is
/// less than 2e-7 + 1e-7 |x|. `mass` becomes the sums of `out`. No logit may be NaN or above `max`;
/// `scale` is not negative.
void exponentials(std::span<const float> logits, float max, float scale, std::span<float> out,
                  Mass& mass);

/// The same where the key is above `floor`, and 0 elsewhere.
void exponentials_above(std::span<const float> logits, float max, float scale,
                        std::span<const float> keys, float floor, std::span<float> out, Mass& mass);

/// Sums into `mass` those values whose key is above `floor`. A higher floor never sums to more:
/// rounding is monotonic, and the order of additions does not depend on the floor.
void sum_above(std::span<const float> values, std::span<const float> keys, float floor, Mass& mass);

/// How many values are `value`, which is not negative.
std::size_t count_equal(float value, std::span<const float> values);

/// Sets to zero all but the `k` largest values; of equal ones the first stay.
/// Values are in [0, 1], `total` is their sum, and k is at least 1.
void keep_largest(std::size_t k, std::span<float> values, double total);

}  // namespace rwkvcpp
