// The sampler's passes over the vocabulary: the scalar kernel's bits on every instruction set.
// (That the results are right is test_sampler's concern.)
#include <algorithm>
#include <cmath>
#include <limits>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "numeric.h"

namespace rwkvcpp::testing {
namespace {

using kernels::KernelTable;
using kernels::kSumBlock;
using kernels::supported_tables;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kRows[] = {kSumBlock, 2 * kSumBlock, 5 * kSumBlock};
// Around the edges of a register, of sixteen lanes, of a round of chains and of a block.
constexpr std::size_t kPlaces[] = {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 63, 64, 496, 511};

const KernelTable& scalar() { return *supported_tables().front(); }

struct Exponentials {
  std::vector<float> out;
  std::vector<double> sums;
};

Exponentials run_exponentials(const KernelTable& table, const std::vector<float>& logits,
                              float scale, const float* keys, float floor) {
  Exponentials e{std::vector<float>(logits.size(), -1.0f),
                 std::vector<double>(logits.size() / kSumBlock, -1.0)};
  table.exponentials(
      {logits.data(), 2.0f, scale, keys, floor, logits.size(), e.out.data(), e.sums.data()});
  return e;
}

TEST_CASE("find_maximum: the same value and the same NaN on every instruction set") {
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    for (const std::size_t n : kRows) {
      const std::vector<float> row = Random(n).floats(n, -9, -5);
      for (const std::size_t place : kPlaces) {
        CAPTURE(place);
        std::vector<float> changed = row;
        const std::size_t at = n - kSumBlock + place;
        changed[at] = -2.0f;
        CHECK(table->find_maximum(changed.data(), n).value == -2.0f);
        CHECK(table->find_maximum(changed.data(), n).all_numbers);
        for (const float sign : {1.0f, -1.0f}) {
          changed[at] = std::copysign(std::numeric_limits<float>::quiet_NaN(), sign);
          CHECK(table->find_maximum(changed.data(), n).value ==
                scalar().find_maximum(changed.data(), n).value);
          CHECK_FALSE(table->find_maximum(changed.data(), n).all_numbers);
        }
      }
    }
  }
}

TEST_CASE("find_maximum: of zeros 0 whichever comes first, of infinities the larger") {
  std::vector<float> row(kSumBlock, -0.0f);
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    CHECK_FALSE(std::signbit(table->find_maximum(row.data(), kSumBlock).value));
  }
  row.assign(kSumBlock, -kInfinity);
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    CHECK(table->find_maximum(row.data(), kSumBlock).value == -kInfinity);
    CHECK(table->find_maximum(row.data(), kSumBlock).all_numbers);
  }
  row[300] = kInfinity;
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    CHECK(table->find_maximum(row.data(), kSumBlock).value == kInfinity);
    CHECK(table->find_maximum(row.data(), kSumBlock).all_numbers);
  }
}

TEST_CASE("exponentials: the same values and sums on every instruction set") {
  for (const std::size_t n : kRows) {
    Random random(n);
    std::vector<float> logits = random.floats(n, -90, 2);
    const std::vector<float> keys = random.floats(n);
    logits[0] = -kInfinity;
    logits[17] = -123.0f;          // 2^-125 at scale 1, the last that is not 0
    logits[18] = -0x1.ec0002p+6f;  // the float below it
    logits[n - 1] = 2.0f;
    for (const float scale : {0.0f, 0.37f, 1.0f, 1e30f, std::numeric_limits<float>::max()}) {
      for (const float* some_keys : {static_cast<const float*>(nullptr), keys.data()}) {
        CAPTURE(scale);
        const Exponentials expected = run_exponentials(scalar(), logits, scale, some_keys, 0.1f);
        CHECK(expected.out[0] == 0.0f);
        if (scale == 1.0f && some_keys == nullptr) {
          CHECK(expected.out[17] == 0x1p-125f);
          CHECK(expected.out[18] == 0.0f);
        }
        for (const KernelTable* table : supported_tables()) {
          CAPTURE(table->isa);
          const Exponentials e = run_exponentials(*table, logits, scale, some_keys, 0.1f);
          CHECK(difference(expected.out, e.out) == "");
          CHECK(expected.sums == e.sums);
        }
      }
    }
  }
}

TEST_CASE("sum_above: the same sums on every instruction set, the key strictly above") {
  for (const std::size_t n : kRows) {
    Random random(n);
    const std::vector<float> values = random.floats(n, 0, 1), keys = random.floats(n, 0, 1);
    for (const float floor : {0.0f, 0.5f, keys[16], 2.0f}) {
      const auto run = [&](const KernelTable& table) {
        std::vector<double> sums(n / kSumBlock, -1.0);
        table.sum_above({values.data(), keys.data(), floor, n, sums.data()});
        return sums;
      };
      const std::vector<double> expected = run(scalar());
      CHECK((expected.back() == 0.0) == (floor == 2.0f));
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CHECK(run(*table) == expected);
      }
    }
  }
}

TEST_CASE("count_at_least, between, drop_below: the same values on every instruction set") {
  for (const std::size_t n : kRows) {
    const std::vector<float> values = Random(n).floats(n, 0, 1);
    for (const std::size_t place : kPlaces) {
      // Both are values of the row: the one is in, the other is not.
      const float one = values[n - kSumBlock + place], other = values[(place + 200) % kSumBlock];
      const float low = std::min(one, other), high = std::max(one, other);
      std::vector<float> expected_between, expected_kept;
      for (const float v : values) {
        if (v >= low && v < high) expected_between.push_back(v);
        expected_kept.push_back(v >= low ? v : 0.0f);
      }
      const auto n_kept = n - static_cast<std::size_t>(
                                  std::count(expected_kept.begin(), expected_kept.end(), 0.0f));
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CAPTURE(place);
        CHECK(table->count_at_least(low, values.data(), n) == n_kept);
        std::vector<float> found(n);
        found.resize(table->between(low, high, values.data(), n, found.data()));
        CHECK(difference(expected_between, found) == "");
        std::vector<float> kept = values;
        CHECK(table->drop_below(low, kept.data(), n) == n_kept);
        CHECK(difference(expected_kept, kept) == "");
      }
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
