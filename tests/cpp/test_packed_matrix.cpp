// Matrices as they are packed at load.
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "doctest.h"
#include "numeric.h"
#include "ops/device.h"

namespace rwkvcpp::testing {
namespace {

constexpr std::size_t kOut = 37, kIn = 48;

MatrixSource source_of(const std::vector<float>& weights) {
  return {&format(WeightType::kF32), kOut, kIn,
          [&weights](std::size_t row, std::size_t n_rows, void* out) {
            std::memcpy(out, weights.data() + row * kIn, n_rows * kIn * sizeof(float));
          }};
}

std::vector<float> product(Ops& ops, const Matrix& matrix) {
  const Rows x = ops.make_rows(3, kIn), y = ops.make_rows(3, kOut);
  Random random(2);
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t i = 0; i < kIn; ++i) x.row(r)[i] = random.uniform(-1, 1);
  }
  ops.reserve(3, kIn, kIn);
  ops.matmul({&matrix, x, y});
  std::vector<float> result;
  for (std::size_t r = 0; r < 3; ++r) result.insert(result.end(), y.row(r), y.row(r) + kOut);
  return result;
}

TEST_CASE("float32 that is exactly bfloat16 packs as BF16, with the same products to the bit") {
  Random random(1);
  std::vector<float> weights = random.floats(kOut * kIn);
  for (float& w : weights) {
    w = std::bit_cast<float>(std::bit_cast<std::uint32_t>(w) & 0xFFFF0000u);
  }
  const auto ops = make_ops("cpu", {.n_threads = 2});
  const Matrix half = ops->upload(source_of(weights));
  CHECK(half.format->type == WeightType::kBF16);

  MatrixSource mapped = source_of(weights);  // packed tile by tile, in the file's own type
  mapped.mapped = reinterpret_cast<const std::uint8_t*>(weights.data());
  const Matrix full = ops->upload(mapped);
  CHECK(full.format->type == WeightType::kF32);
  CHECK(difference(product(*ops, full), product(*ops, half)) == "");

  weights.back() = std::nextafter(weights.back(), 2.0f);
  CHECK(ops->upload(source_of(weights)).format->type == WeightType::kF32);
}

}  // namespace
}  // namespace rwkvcpp::testing
