// How a matrix that expects zeros lies: by columns, where what meets a zero is not read, or by
// tiles, where everything else is faster (docs/sparse.md). Nobody knows what will come, so a matrix
// turns when what its products would have saved in the other layout adds up to what turning costs.
// All costs are in readings of the matrix, by tiles, for one row.
#include <algorithm>
#include <cstring>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed_matrix.h"
#include "ops/cpu/scratch.h"

namespace rwkvcpp {
namespace {

// As measured (bench/RESULTS.md): nearly the same for all formats.
constexpr double kRowsOfReading = 10;    // a product with so many rows takes as long as reading
constexpr double kEverythingRead = 1.3;  // by columns, of the time by tiles
constexpr double kScalesRead = 0.2;      // by columns, when all inputs are zero
constexpr double kActiveRead = 2;        // and for the share of them that are not

// Turning takes three to four readings. To columns it is done when so much is lost. To tiles
// later: a conversation lives by columns, and short prompts are not worth two turns each.
constexpr double kToColumns = 4, kToTiles = 16;

double time_by_tiles(std::size_t n_rows) noexcept {
  return std::max(1.0, static_cast<double>(n_rows) / kRowsOfReading);
}

double time_by_columns(std::size_t n_rows, double active_share) noexcept {
  if (active_share <= kWorthSkipping) return kScalesRead + kActiveRead * active_share;
  return kEverythingRead * time_by_tiles(n_rows);
}

}  // namespace

void CpuOps::weigh_layout(const Product& p, const Input& input) {
  Layout& layout = *p.weight->layout;
  const std::size_t n_rows = p.x.rows.n_rows;
  const double lost = time_by_columns(n_rows, input.active_share) - time_by_tiles(n_rows);
  layout.regret = std::max(0.0, layout.regret + (layout.by_columns ? lost : -lost));
  if (layout.regret >= (layout.by_columns ? kToTiles : kToColumns)) turn(*p.weight);
}

/// Panel by panel in place: both layouts have a panel's bytes in the same range.
void CpuOps::turn(const Matrix& weight) {
  const auto type = static_cast<std::size_t>(weight.format->type);
  const std::size_t length = panel_strips(weight), n_strips = weight.n_strips();
  pool_.run((n_strips + length - 1) / length, [&](std::size_t piece, int worker) {
    const ColumnPanel panel = column_panel(weight, piece * length);
    std::byte* here = weight.tiles->data() + panel.offset;
    std::byte* turned = workers_[static_cast<std::size_t>(worker)].turned.data();
    const std::size_t n_blocks = weight.n_in / kBlock;
    if (weight.by_columns()) {
      table_.turn_to_tiles[type]({here, turned, n_blocks, panel.n_strips});
    } else {
      table_.turn_to_columns[type]({turned, here, n_blocks, panel.n_strips});
    }
    std::memcpy(here, turned, kStripTiles * panel.n_strips * tile_row_bytes(weight));
  });
  weight.layout->by_columns = !weight.layout->by_columns;
  weight.layout->regret = 0;
}

}  // namespace rwkvcpp
