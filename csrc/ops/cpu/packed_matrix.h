// Weights in the layout that kernels read, made from rows in the layout of files.
#pragma once

#include "core/thread_pool.h"
#include "ops/tensor.h"

namespace rwkvcpp {

inline constexpr std::size_t kPanelStrips =
    8;  // of a matrix by columns: runs of 128 bytes and more

/// Packs all rows in parallel, a few tiles' worth of file rows in memory at a
/// time (float32 that is exactly bfloat16 as BF16); or, for a mapped source, only
/// notes where its rows are.
Matrix make_matrix(const MatrixSource& source, ThreadPool& pool);

/// Bytes from one tile row (16 outputs) to the next.
std::size_t tile_row_bytes(const Matrix& matrix) noexcept;

/// The panel of a matrix by columns that has strip `strip`: where it is among the tiles.
struct ColumnPanel {
  std::size_t offset;  // bytes
  std::size_t n_strips;
};
ColumnPanel column_panel(const Matrix& matrix, std::size_t strip) noexcept;

/// The packed tiles [tile, tile + n_tiles): in place, or for a mapped matrix
/// packed into `scratch`, which must hold n_tiles * tile_row_bytes.
const void* packed_tiles(const Matrix& matrix, std::size_t tile, std::size_t n_tiles,
                         std::byte* scratch) noexcept;

}  // namespace rwkvcpp
