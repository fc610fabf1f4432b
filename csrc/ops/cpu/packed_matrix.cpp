#include "ops/cpu/packed_matrix.h"

#include <algorithm>
#include <vector>

namespace rwkvcpp {
namespace {

/// Packs file rows [row, row + 16) of a matrix with n_out rows.
void pack_tile_row(const Format& format, const std::uint8_t* rows, std::size_t n_rows,
                   std::size_t n_in, void* tiles) {
  const void* pointers[kTileRows];
  for (std::size_t r = 0; r < kTileRows; ++r) {
    pointers[r] = r < n_rows ? rows + r * format.row_bytes(n_in) : nullptr;
  }
  format.pack(pointers, n_in / format.block_inputs, tiles);
}

}  // namespace

std::size_t tile_row_bytes(const Matrix& matrix) noexcept {
  return matrix.n_units() * matrix.format->tile_bytes;
}

Matrix make_matrix(const MatrixSource& source, ThreadPool& pool) {
  Matrix matrix{source.format, source.n_out, source.n_in, nullptr, source.mapped};
  if (matrix.file_rows != nullptr) return matrix;

  const std::size_t bytes = tile_row_bytes(matrix);
  auto tiles = std::make_shared<AlignedBuffer>(matrix.n_tiles() * bytes);
  std::vector<std::vector<std::uint8_t>> buffers(static_cast<std::size_t>(pool.n_threads()));
  pool.run(matrix.n_tiles(), [&](std::size_t tile, int worker) {
    auto& rows = buffers[static_cast<std::size_t>(worker)];
    const std::size_t first = tile * kTileRows;
    const std::size_t n_rows = std::min(kTileRows, matrix.n_out - first);
    rows.resize(kTileRows * source.format->row_bytes(matrix.n_in));
    source.read(first, n_rows, rows.data());
    pack_tile_row(*source.format, rows.data(), n_rows, matrix.n_in, tiles->data() + tile * bytes);
  });
  matrix.tiles = std::move(tiles);
  return matrix;
}

const void* packed_tiles(const Matrix& matrix, std::size_t tile, std::size_t n_tiles,
                         std::byte* scratch) noexcept {
  const std::size_t bytes = tile_row_bytes(matrix);
  if (matrix.tiles) return matrix.tiles->data() + tile * bytes;
  const std::size_t file_row = matrix.format->row_bytes(matrix.n_in);
  for (std::size_t t = 0; t < n_tiles; ++t) {
    const std::size_t first = (tile + t) * kTileRows;
    pack_tile_row(*matrix.format, matrix.file_rows + first * file_row,
                  std::min(kTileRows, matrix.n_out - first), matrix.n_in, scratch + t * bytes);
  }
  return scratch;
}

}  // namespace rwkvcpp
