// Weights in the layout that kernels read, made from rows in the layout of files.
#pragma once

#include "core/thread_pool.h"
#include "ops/tensor.h"

namespace rwkvcpp {

/// Packs all rows in parallel, a few tiles' worth of file rows in memory at a
/// time (float32 that is exactly bfloat16 as BF16); or, for a mapped source, only
/// notes where its rows are. By columns only where the format and the width allow it.
Matrix make_matrix(const MatrixSource& source, bool by_columns, ThreadPool& pool);

/// Bytes from one tile row (16 outputs) to the next.
std::size_t tile_row_bytes(const Matrix& matrix) noexcept;

/// The panel of a matrix by columns that has strip `strip`: where it is among the tiles.
struct ColumnPanel {
  std::size_t offset;  // bytes
  std::size_t first_strip, n_strips;
};
ColumnPanel column_panel(const Matrix& matrix, std::size_t strip) noexcept;

inline constexpr std::size_t kStripTiles = kStripRows / kTileRows;

/// Bytes of the longest panel.
std::size_t panel_bytes(const Matrix& matrix) noexcept;

/// Strips of a panel: long runs are read fastest, and two threads want a panel each.
std::size_t panel_strips(const Matrix& matrix) noexcept;

/// The packed tiles [tile, tile + n_tiles): in place, or for a mapped matrix
/// packed into `scratch`, which must hold n_tiles * tile_row_bytes.
const void* packed_tiles(const Matrix& matrix, std::size_t tile, std::size_t n_tiles,
                         std::byte* scratch) noexcept;

}  // namespace rwkvcpp
