// A matrix that expects zeros turns to the layout that its products have use for, and no bit of
// them changes by that.
#include <algorithm>
#include <cstring>
#include <vector>

#include "doctest.h"
#include "numeric.h"
#include "ops/device.h"

namespace rwkvcpp::testing {
namespace {

// Four panels, the last one short, and its last strip so empty that tiles end before it does.
constexpr std::size_t kOut = 10 * kStripRows + 5, kIn = 320, kMaxRows = 64;

constexpr float kUntouched = 3.25f;

/// One matrix, in ops that skip zeros or do not.
struct Weights {
  std::unique_ptr<Ops> ops;
  Matrix matrix;
  Rows x, y;

  Weights(const Format& format, const std::vector<std::uint8_t>& file, Skipping skipping)
      : ops(make_ops("cpu", {.n_threads = 2, .skipping = skipping})),
        x(ops->make_rows(kMaxRows, kIn)),
        y(ops->make_rows(kMaxRows + 1, kOut)) {
    const std::size_t row_bytes = format.row_bytes(kIn);
    const auto read = [&](std::size_t row, std::size_t n_rows, void* out) {
      std::memcpy(out, file.data() + row * row_bytes, n_rows * row_bytes);
    };
    matrix = ops->upload({&format, kOut, kIn, read, nullptr, /*zeros_expected=*/true});
    ops->reserve(kMaxRows, kIn, kIn);
  }

  /// W x for rows a share of whose inputs is not zero.
  std::vector<float> product(std::size_t n_rows, double density, std::uint64_t seed) {
    Random random(seed);
    for (std::size_t r = 0; r < n_rows; ++r) {
      for (std::size_t i = 0; i < kIn; ++i) {
        const bool active = random.uniform(0, 1) < static_cast<float>(density);
        x.row(r)[i] = active ? random.uniform(0.5f, 2) : 0.0f;
      }
    }
    std::fill(y.data, y.data + (n_rows + 1) * y.stride, kUntouched);
    ops->matmul({&matrix, x.first(n_rows), y.first(n_rows)});
    const float* after = y.row(n_rows);
    CHECK(std::all_of(after, after + y.stride, [](float v) { return v == kUntouched; }));
    std::vector<float> result;
    for (std::size_t r = 0; r < n_rows; ++r) {
      result.insert(result.end(), y.row(r), y.row(r) + kOut);
    }
    return result;
  }
  bool by_columns() const { return matrix.by_columns(); }
};

std::vector<std::uint8_t> random_file(const Format& format) {
  const std::vector<float> weights = Random(9).floats(kOut * kIn);
  std::vector<std::uint8_t> file(kOut * format.row_bytes(kIn));
  format.quantize(weights.data(), kOut * kIn / format.block_inputs, file.data());
  return file;
}

/// Multiplies until the matrix lies the other way; how many products that took, 0 if it never does.
std::size_t products_until_turned(Weights& weights, Weights& tiles, std::size_t n_rows,
                                  double density) {
  const bool before = weights.by_columns();
  for (std::uint64_t i = 1; i <= 300; ++i) {
    const auto expected = tiles.product(n_rows, density, i);
    CHECK(difference(expected, weights.product(n_rows, density, i)) == "");
    if (weights.by_columns() != before) return i;
  }
  return 0;
}

TEST_CASE("layout: a matrix turns as its products want it, and back, with the same bits") {
  for (const Format& format : formats()) {
    if (format.columns.pack == nullptr) continue;
    CAPTURE(format.name);
    const auto file = random_file(format);
    Weights tiles(format, file, Skipping::kNever), weights(format, file, Skipping::kAuto);
    CHECK_FALSE(tiles.by_columns());
    CHECK(weights.by_columns());
    CHECK(products_until_turned(weights, tiles, 1, 0.1) == 0);  // zeros: by columns
    CHECK(products_until_turned(weights, tiles, 1, 1.0) > 20);  // none: by tiles, in the end
    CHECK(products_until_turned(weights, tiles, 1, 0.8) == 0);  // there it stays
    CHECK(products_until_turned(weights, tiles, 1, 0.1) > 2);   // zeros again
    CHECK(products_until_turned(weights, tiles, 64, 0.1) > 2);  // many rows have no use for them
    CHECK(products_until_turned(weights, tiles, 2, 0.05) > 2);  // two rows have
    CHECK(weights.by_columns());
  }
}

TEST_CASE("layout: a matrix that may not skip goes to tiles, whatever is zero") {
  const Format& format = rwkvcpp::format(WeightType::kF16);
  auto file = random_file(format);
  const std::uint16_t infinity = 0x7C00;
  std::memcpy(file.data(), &infinity, sizeof infinity);
  Weights weights(format, file, Skipping::kAuto);
  CHECK(weights.by_columns());
  for (std::uint64_t i = 0; i < 100; ++i) weights.product(1, 0.1, i);
  CHECK_FALSE(weights.by_columns());
}

TEST_CASE("layout: what is told to skip always stays by columns") {
  const Format& format = rwkvcpp::format(WeightType::kQ5_1);
  const auto file = random_file(format);
  Weights tiles(format, file, Skipping::kNever), weights(format, file, Skipping::kAlways);
  CHECK(products_until_turned(weights, tiles, 16, 1.0) == 0);
  CHECK(weights.by_columns());
}

}  // namespace
}  // namespace rwkvcpp::testing
