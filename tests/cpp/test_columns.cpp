// Weights by columns: the bits of weights by tiles, on every instruction set, at every density of
// the inputs, whether zeros are left out or not.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "numeric.h"
#include "quant/activations.h"
#include "quant/columns.h"
#include "quant/format.h"

namespace rwkvcpp::testing {
namespace {

using kernels::KernelTable;
using kernels::supported_tables;

constexpr std::size_t kTilesOfStrip = kStripRows / kTileRows;

/// Inputs behind ReLU^2: a share of them is not zero.
std::vector<float> inputs_of(Random& random, std::size_t n, double density) {
  std::vector<float> x = random.floats(n, 0.1f, 3.0f);
  for (float& value : x) {
    if (random.uniform(0, 1) >= static_cast<float>(density)) value = 0.0f;
  }
  return x;
}

/// One panel of rows, packed both ways, and its inputs as kernels read them.
struct PanelCase {
  const Format& format;
  std::size_t n_strips, n_blocks, n_rows;
  std::vector<std::uint8_t> file_rows;
  AlignedBuffer tiles, panel;
  std::vector<float> x;
  bool finite = true;

  std::size_t n_out() const { return n_strips * kStripRows; }
  std::size_t n_in() const { return n_blocks * kBlock; }
  std::size_t n_units() const { return n_in() / format.block_inputs; }

  PanelCase(const Format& f, std::size_t strips, std::size_t blocks, std::size_t rows,
            double density, std::uint64_t seed)
      : format(f), n_strips(strips), n_blocks(blocks), n_rows(rows) {
    Random random(seed);
    const std::vector<float> weights = random.floats(n_out() * n_in());
    file_rows.resize(n_out() * f.row_bytes(n_in()));
    f.quantize(weights.data(), n_out() * n_units(), file_rows.data());
    x = inputs_of(random, n_rows * n_in(), density);
    tiles = AlignedBuffer(kTilesOfStrip * n_strips * n_units() * f.tile_bytes);
    panel = AlignedBuffer(tiles.size());
    pack();
  }

  void pack() {
    for (std::size_t first = 0; first < n_out(); first += kTileRows) {
      format.pack(rows_from<kTileRows>(first).data(), n_units(),
                  tiles.data() + first / kTileRows * n_units() * format.tile_bytes);
    }
    for (std::size_t s = 0; s < n_strips; ++s) {
      const auto rows = rows_from<kStripRows>(s * kStripRows);
      finite &= format.columns.pack(rows.data(), n_blocks, n_strips, s, panel.data());
    }
  }

  template <std::size_t n>
  std::array<const void*, n> rows_from(std::size_t first) const {
    std::array<const void*, n> rows;
    for (std::size_t r = 0; r < n; ++r) {
      rows[r] = file_rows.data() + (first + r) * format.row_bytes(n_in());
    }
    return rows;
  }

  /// Panels of x in the form that the format meets.
  struct Packed {
    std::vector<ActivationBlock> blocks;
    std::vector<float> floats;
    const void* data;
  };
  Packed pack_inputs(const KernelTable& table) const {
    Packed packed{std::vector<ActivationBlock>(n_rows * n_blocks), std::vector<float>(x.size()),
                  nullptr};
    for (std::size_t first = 0; first < n_rows;) {
      const std::size_t rows = kernels::panel_rows(first, n_rows, table.max_rows);
      for (std::size_t r = 0; r < rows; ++r) {
        table.quantize(x.data() + (first + r) * n_in(), n_blocks,
                       packed.blocks.data() + first * n_blocks + r, rows);
      }
      table.interleave(x.data() + first * n_in(), n_in(), rows, n_in(),
                       packed.floats.data() + first * n_in());
      first += rows;
    }
    packed.data = format.is_float ? static_cast<const void*>(packed.floats.data())
                                  : static_cast<const void*>(packed.blocks.data());
    return packed;
  }

  std::vector<float> by_tiles(const KernelTable& table) const {
    const Packed packed = pack_inputs(table);
    std::vector<float> y(n_rows * n_out());
    table.matmul[static_cast<std::size_t>(format.type)]({tiles.data(), kTilesOfStrip * n_strips,
                                                         n_units(), packed.data, n_rows, y.data(),
                                                         n_out()});
    return y;
  }

  /// In pieces of `step` strips.
  std::vector<float> by_columns(const KernelTable& table, bool skip, std::size_t step) const {
    const Packed packed = pack_inputs(table);
    std::vector<kernels::ActiveInputs> active(n_blocks);
    std::vector<std::int8_t> values(n_rows * n_in());
    if (skip) {
      const auto find = format.is_float ? table.find_active_floats : table.find_active;
      find({packed.data, n_rows, n_blocks, active.data(), values.data()});
    }
    std::vector<float> y(n_rows * n_out(), -7.0f);
    for (std::size_t s = 0; s < n_strips; s += step) {
      table.columns[static_cast<std::size_t>(format.type)](
          {panel.data(), n_strips, s, std::min(n_strips, s + step), n_blocks, packed.data, n_rows,
           y.data() + s * kStripRows, n_out(), skip ? active.data() : nullptr,
           skip ? values.data() : nullptr});
    }
    return y;
  }
};

template <class Body>
void for_column_formats(Body body) {
  for (const Format& f : formats()) {
    if (f.columns.pack != nullptr) body(f);
  }
}

TEST_CASE("columns: dense products have the bits of tiles") {
  for_column_formats([](const Format& f) {
    for (const std::size_t rows : {1, 2, 3, 4, 7, 8, 16, 17, 33, 70, 128}) {
      const PanelCase c(f, 1 + rows % 4, 1 + rows % 37, rows, 0.6, 11 * rows);
      const auto expected = c.by_tiles(*supported_tables().front());
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CAPTURE(f.name);
        CAPTURE(rows);
        CHECK(difference(expected, c.by_columns(*table, false, 4)) == "");
        CHECK(difference(expected, c.by_columns(*table, false, 1)) == "");
      }
    }
  });
}

TEST_CASE("columns: zeros left out change no bit, at any density") {
  for_column_formats([](const Format& f) {
    for (const double density : {0.0, 0.03, 0.13, 0.3, 0.5, 0.8, 1.0}) {
      for (const std::size_t rows : {1, 2, 4}) {
        const auto seed = static_cast<std::uint64_t>(100 * density) + rows;
        const PanelCase c(f, 4, 9, rows, density, seed);
        const auto expected = c.by_tiles(*supported_tables().front());
        for (const KernelTable* table : supported_tables()) {
          CAPTURE(table->isa);
          CAPTURE(f.name);
          CAPTURE(density);
          CAPTURE(rows);
          CHECK(difference(expected, c.by_columns(*table, true, 4)) == "");
          CHECK(difference(expected, c.by_columns(*table, true, 2)) == "");
        }
      }
    }
  });
}

TEST_CASE("columns: a panel turned to tiles has their bytes, and turned back its own") {
  for_column_formats([](const Format& f) {
    for (const std::size_t strips : {1, 2, 3, 4}) {
      const PanelCase c(f, strips, 1 + 2 * strips, 1, 1.0, 60 + strips);
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CAPTURE(f.name);
        CAPTURE(strips);
        const auto type = static_cast<std::size_t>(f.type);
        AlignedBuffer panel(c.panel.size()), tiles(c.tiles.size());
        std::memcpy(panel.data(), c.panel.data(), panel.size());
        table->turn_to_tiles[type]({panel.data(), tiles.data(), c.n_blocks, strips});
        CHECK(std::memcmp(tiles.data(), c.tiles.data(), tiles.size()) == 0);
        std::memset(panel.data(), 0, panel.size());
        table->turn_to_columns[type]({panel.data(), tiles.data(), c.n_blocks, strips});
        CHECK(std::memcmp(panel.data(), c.panel.data(), panel.size()) == 0);
      }
    }
  });
}

TEST_CASE("columns: active inputs are counted once, for all rows of a panel") {
  for_column_formats([](const Format& f) {
    for (const std::size_t rows : {1, 2, 4}) {
      const PanelCase c(f, 1, 5, rows, 0.2, 40 + rows);
      for (const KernelTable* table : supported_tables()) {
        const auto packed = c.pack_inputs(*table);
        const auto is_zero = [&](std::size_t row, std::size_t input) {
          const std::size_t block = input / kBlock, place = input % kBlock;
          return f.is_float ? packed.floats[input * rows + row] == 0.0f
                            : packed.blocks[block * rows + row].values[place] == 0;
        };
        std::size_t expected = 0;
        for (std::size_t input = 0; input < c.n_in(); ++input) {
          bool zero = true;
          for (std::size_t row = 0; row < rows; ++row) zero = zero && is_zero(row, input);
          expected += !zero;
        }
        std::vector<kernels::ActiveInputs> active(c.n_blocks);
        std::vector<std::int8_t> values(rows * c.n_in());
        const auto find = f.is_float ? table->find_active_floats : table->find_active;
        CAPTURE(table->isa);
        CHECK(find({packed.data, rows, c.n_blocks, active.data(), values.data()}) == expected);
      }
    }
  });
}

TEST_CASE("columns: a single active input, at every place of a block") {
  for_column_formats([](const Format& f) {
    PanelCase c(f, 3, 2, 1, 0.0, 5);
    for (std::size_t i = 0; i < c.n_in(); ++i) {
      std::fill(c.x.begin(), c.x.end(), 0.0f);
      c.x[i] = 1.5f;
      const auto expected = c.by_tiles(*supported_tables().front());
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CAPTURE(f.name);
        CAPTURE(i);
        CHECK(difference(expected, c.by_columns(*table, true, 4)) == "");
      }
    }
  });
}

TEST_CASE("columns: float weights that are not finite are found while packing") {
  for_column_formats([](const Format& f) {
    PanelCase c(f, 2, 2, 1, 0.5, 6);
    CHECK(c.finite);
    if (!f.is_float) return;
    float infinity = -INFINITY;
    f.quantize(&infinity, 1, c.file_rows.data() + 37 * f.row_bytes(c.n_in()) + 5 * f.block_bytes);
    c.pack();
    CHECK_FALSE(c.finite);
  });
}

TEST_CASE("columns: a scale that is not finite reaches the output, whatever is left out") {
  PanelCase c(format(WeightType::kQ4_0), 1, 3, 1, 0.0, 7);  // all inputs zero
  const std::uint16_t infinity = 0x7C00;
  std::memcpy(c.file_rows.data() + 4 * c.format.row_bytes(c.n_in()), &infinity, 2);
  c.pack();
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    CHECK(std::isnan(c.by_tiles(*table)[4]));
    CHECK(std::isnan(c.by_columns(*table, true, 4)[4]));
    CHECK(std::isnan(c.by_columns(*table, false, 4)[4]));
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
