// Products: every instruction set gives the scalar kernel's bits, and the scalar
// kernel gives what the formats' own dequantization says.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "numeric.h"
#include "quant/activations.h"
#include "quant/format.h"

namespace rwkvcpp::testing {
namespace {

using kernels::KernelTable;
using kernels::supported_tables;

enum class Inputs { kRandom, kExtreme };

/// Seven tiles, the last not full: kernels may take them in fours or pairs, and one is left.
constexpr std::size_t kOutputs = 101;

/// Where a block keeps its scale, and its minimum if it has one.
std::vector<std::size_t> half_floats(const Format& f) {
  switch (f.type) {
    case WeightType::kQ4_1:
    case WeightType::kQ5_1:
    case WeightType::kQ4_K:
    case WeightType::kQ5_K:
      return {0, 2};
    case WeightType::kQ2_K:
      return {80, 82};
    case WeightType::kQ3_K:
      return {108};
    case WeightType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

/// A packed matrix, its rows as a file has them, and activations for it.
struct MatmulCase {
  const Format& format;
  std::size_t n_out, n_in, n_rows;
  std::vector<std::uint8_t> file_rows;
  AlignedBuffer tiles;
  std::vector<float> x;

  std::size_t n_tiles() const { return (n_out + kTileRows - 1) / kTileRows; }
  std::size_t n_units() const { return n_in / format.block_inputs; }

  MatmulCase(const Format& f, std::size_t outputs, std::size_t inputs, std::size_t rows,
             std::uint64_t seed, Inputs kind)
      : format(f), n_out(outputs), n_in(inputs), n_rows(rows) {
    Random random(seed);
    file_rows.resize(n_out * f.row_bytes(n_in));
    x = random.floats(n_rows * n_in);
    if (kind == Inputs::kRandom || f.is_float) {
      const std::vector<float> weights = random.floats(n_out * n_in);
      f.quantize(weights.data(), n_out * n_units(), file_rows.data());
    } else {
      // Every bit pattern of codes and sub-scales; the first rows hold one code throughout, the
      // largest and smallest among them, so that no narrow sum can hide an overflow.
      for (auto& byte : file_rows) byte = static_cast<std::uint8_t>(random.bits());
      auto row = file_rows.begin();
      for (const int byte : {0xFF, 0x00, 0x80, 0x7F}) {
        row = std::fill_n(row, f.row_bytes(n_in), static_cast<std::uint8_t>(byte));
      }
      make_scales_finite();
      for (float& value : x) value = 1.0f;  // all activations +127
      if (seed % 2) std::fill(x.begin(), x.end(), -1.0f);
    }
    pack();
  }

  void make_scales_finite() {
    for (std::size_t b = 0; b < n_out * n_units(); ++b) {
      std::uint8_t* block = file_rows.data() + b * format.block_bytes;
      for (const std::size_t at : half_floats(format)) {
        const std::uint16_t one = 0x3C00;
        std::memcpy(block + at, &one, 2);
      }
    }
  }

  void pack() {
    tiles = AlignedBuffer(n_tiles() * n_units() * format.tile_bytes);
    for (std::size_t t = 0; t < n_tiles(); ++t) {
      const void* rows[kTileRows];
      for (std::size_t r = 0; r < kTileRows; ++r) {
        const std::size_t row = t * kTileRows + r;
        rows[r] = row < n_out ? file_rows.data() + row * format.row_bytes(n_in) : nullptr;
      }
      format.pack(rows, n_units(), tiles.data() + t * n_units() * format.tile_bytes);
    }
  }

  std::vector<float> run(const KernelTable& table, bool float_activations) const {
    const std::size_t stride = n_tiles() * kTileRows;
    std::vector<float> y(n_rows * stride + 16, -7.0f);  // a guard behind
    kernels::MatmulArgs args{tiles.data(), n_tiles(), n_units(), nullptr, n_rows, y.data(), stride};
    std::vector<ActivationBlock> blocks(n_rows * n_in / kBlock);
    std::vector<float> floats(n_rows * n_in);
    const std::size_t n_blocks = n_in / kBlock;
    for (std::size_t first = 0; first < n_rows;) {
      const std::size_t rows = kernels::panel_rows(first, n_rows, table.max_rows);
      for (std::size_t r = 0; r < rows; ++r) {
        table.quantize(x.data() + (first + r) * n_in, n_blocks,
                       blocks.data() + first * n_blocks + r, rows);
      }
      table.interleave(x.data() + first * n_in, n_in, rows, n_in, floats.data() + first * n_in);
      first += rows;
    }
    const auto type = static_cast<std::size_t>(format.type);
    if (format.is_float || float_activations) {
      args.x = floats.data();
      table.matmul_float[type](args);
    } else {
      args.x = blocks.data();
      table.matmul[type](args);
    }
    CHECK(std::all_of(y.end() - 16, y.end(), [](float v) { return v == -7.0f; }));
    y.resize(n_rows * stride);
    return y;
  }

  /// Row `row` of x as the kernel sees it, in double.
  std::vector<double> seen_inputs(std::size_t row, bool int8) const {
    std::vector<double> seen(x.begin() + static_cast<std::ptrdiff_t>(row * n_in),
                             x.begin() + static_cast<std::ptrdiff_t>((row + 1) * n_in));
    if (!int8) return seen;
    for (std::size_t b = 0; b < n_in / kBlock; ++b) {
      ActivationBlock block;
      supported_tables().front()->quantize(x.data() + row * n_in + b * kBlock, 1, &block, 1);
      for (std::size_t i = 0; i < kBlock; ++i) {
        seen[b * kBlock + i] = static_cast<double>(block.scale) * block.values[i];
      }
    }
    return seen;
  }
};

std::size_t inputs_for(const Format& f, std::size_t n_blocks) {
  return n_blocks * std::max(f.block_inputs, kBlock);
}

TEST_CASE("products: every instruction set agrees with the scalar kernel, bit for bit") {
  for (const Format& f : formats()) {
    for (const std::size_t n_blocks : {1, 2, 3, 7}) {
      for (const std::size_t rows : {1, 2, 3, 7, 8, 9, 16, 17, 33}) {
        for (const Inputs kind : {Inputs::kRandom, Inputs::kExtreme}) {
          const MatmulCase c(f, kOutputs, inputs_for(f, n_blocks), rows, 5 * n_blocks + rows, kind);
          for (const bool float_activations : {false, true}) {
            const auto expected = c.run(*supported_tables().front(), float_activations);
            for (const KernelTable* table : supported_tables()) {
              CAPTURE(table->isa);
              CAPTURE(f.name);
              CAPTURE(n_blocks);
              CAPTURE(rows);
              CHECK(difference(expected, c.run(*table, float_activations)) == "");
            }
          }
        }
      }
    }
  }
}

/// Every output of the scalar kernel is the product in double, within roundings.
void check_against_double(const MatmulCase& c, bool int8) {
  const Format& f = c.format;
  const auto y = c.run(*supported_tables().front(), !int8);
  std::vector<float> weights(c.n_in);
  for (std::size_t row = 0; row < c.n_rows; ++row) {
    const std::vector<double> x = c.seen_inputs(row, int8);
    for (std::size_t out = 0; out < c.n_out; ++out) {
      f.dequantize(c.file_rows.data() + out * f.row_bytes(c.n_in), c.n_units(), weights.data());
      double sum = 0, magnitude = 0;
      for (std::size_t i = 0; i < c.n_in; ++i) {
        sum += weights[i] * x[i];
        magnitude += std::fabs(weights[i] * x[i]);
      }
      // Three roundings a term (product of scales, fma, minimum term), and a
      // minimum that cancels against codes up to 31 times as large.
      const double tolerance =
          3.0 * 0x1p-24 * 32 * (magnitude + 1e-30) * static_cast<double>(c.n_in) / kBlock;
      const double found = y[row * c.n_tiles() * kTileRows + out];
      CAPTURE(f.name);
      CAPTURE(out);
      CHECK(std::fabs(found - sum) <= tolerance);
    }
  }
}

TEST_CASE("products: the scalar kernel agrees with dequantized weights in double") {
  for (const Format& f : formats()) {
    for (const Inputs kind : {Inputs::kRandom, Inputs::kExtreme}) {
      for (const std::uint64_t seed : {1, 2}) {  // extreme activations of either sign
        for (const std::size_t rows : {1, 3}) {  // a single row has ways of its own
          const MatmulCase c(f, kOutputs, inputs_for(f, 5), rows, seed, kind);
          check_against_double(c, false);
          if (!f.is_float) check_against_double(c, true);
        }
      }
    }
  }
}

TEST_CASE("quantized activations: every instruction set, odd values included") {
  Random random(3);
  std::vector<float> x = random.floats(32 * 8, -5.0f, 5.0f);
  std::fill(x.begin(), x.begin() + 32, 0.0f);
  std::fill(x.begin() + 32, x.begin() + 64, 1e-35f);  // below what 127 / amax can hold
  for (std::size_t i = 64; i < 96; ++i) x[i] = (i % 2 ? 127.0f : -127.0f);
  for (std::size_t i = 96; i < 128; ++i) x[i] = static_cast<float>(i) - 96.5f;  // ties
  std::vector<ActivationBlock> expected(8), actual(8);
  supported_tables().front()->quantize(x.data(), 8, expected.data(), 1);
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    table->quantize(x.data(), 8, actual.data(), 1);
    CHECK(std::memcmp(expected.data(), actual.data(), 8 * sizeof(ActivationBlock)) == 0);
  }
  for (std::size_t b = 0; b < 8; ++b) {
    int sum = 0, first = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      sum += expected[b].values[i];
      first += i < 16 ? expected[b].values[i] : 0;
      const float error =
          std::fabs(static_cast<float>(expected[b].values[i]) * expected[b].scale - x[32 * b + i]);
      CHECK(error <= 0.5001f * expected[b].scale + 1e-34f);
    }
    CHECK(expected[b].sum == sum);
    CHECK(expected[b].half_sum[0] == first);
    CHECK(expected[b].half_sum[1] == sum - first);
  }
}

TEST_CASE("a NaN among the activations reaches the output") {
  for (const KernelTable* table : supported_tables()) {
    const MatmulCase random(format(WeightType::kQ4_0), 16, 64, 1, 1, Inputs::kRandom);
    MatmulCase c(format(WeightType::kQ4_0), 16, 64, 1, 1, Inputs::kRandom);
    c.x[40] = std::nanf("");
    CHECK(std::isnan(c.run(*table, false)[3]));
    CHECK_FALSE(std::isnan(random.run(*table, false)[3]));
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
