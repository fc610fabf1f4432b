#include "ops/cpu/packed_matrix.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "quant/columns.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kLongestRun = kPanelRows / kStripRows;

/// Packs file rows [row, row + 16) of a matrix with n_out rows.
void pack_tile_row(const Format& format, const std::uint8_t* rows, std::size_t n_rows,
                   std::size_t n_in, void* tiles) {
  const void* pointers[kTileRows];
  for (std::size_t r = 0; r < kTileRows; ++r) {
    pointers[r] = r < n_rows ? rows + r * format.row_bytes(n_in) : nullptr;
  }
  format.pack(pointers, n_in / format.block_inputs, tiles);
}

/// Whether every float32 is a bfloat16 with zeros behind, as in files made from
/// official checkpoints. Most others fail in their first row.
bool is_exactly_bf16(const MatrixSource& source, ThreadPool& pool) {
  if (source.format->type != WeightType::kF32) return false;
  std::atomic<bool> exact{true};
  pool.run(source.n_out, [&](std::size_t row, int) {
    if (!exact.load(std::memory_order_relaxed)) return;
    std::vector<std::uint32_t> bits(source.n_in);
    source.read(row, 1, bits.data());
    const bool zeros =
        std::ranges::all_of(bits, [](std::uint32_t b) { return (b & 0xFFFFu) == 0; });
    if (!zeros) exact.store(false, std::memory_order_relaxed);
  });
  return exact.load();
}

/// The same weights at half the bytes.
MatrixSource as_bf16(const MatrixSource& source) {
  MatrixSource half = source;
  half.format = &format(WeightType::kBF16);
  half.read = [read = source.read, n_in = source.n_in](std::size_t row, std::size_t n_rows,
                                                       void* out) {
    std::vector<float> values(n_rows * n_in);
    read(row, n_rows, values.data());
    format(WeightType::kBF16).quantize(values.data(), values.size(), out);
  };
  return half;
}

}  // namespace

std::size_t tile_row_bytes(const Matrix& matrix) noexcept {
  return matrix.n_units() * matrix.format->tile_bytes;
}

namespace {

/// Reads the matrix `step` rows at a time, in parallel: take(first row, pointers to its rows, null
/// behind the last one).
template <std::size_t step, class Take>
void for_file_rows(const MatrixSource& source, ThreadPool& pool, Take take) {
  const std::size_t row_bytes = source.format->row_bytes(source.n_in);
  std::vector<std::vector<std::uint8_t>> buffers(static_cast<std::size_t>(pool.n_threads()));
  pool.run((source.n_out + step - 1) / step, [&](std::size_t piece, int worker) {
    auto& rows = buffers[static_cast<std::size_t>(worker)];
    const std::size_t first = piece * step, n_rows = std::min(step, source.n_out - first);
    rows.resize(step * row_bytes);
    source.read(first, n_rows, rows.data());
    const void* pointers[step];
    for (std::size_t r = 0; r < step; ++r) {
      pointers[r] = r < n_rows ? rows.data() + r * row_bytes : nullptr;
    }
    take(first, pointers);
  });
}

void pack_columns(const MatrixSource& source, AlignedBuffer& tiles, Matrix& matrix,
                  ThreadPool& pool) {
  std::atomic<bool> finite{true};
  for_file_rows<kStripRows>(source, pool, [&](std::size_t first, const void* const* rows) {
    const std::size_t strip = first / kStripRows;
    const ColumnPanel panel = column_panel(matrix, strip);
    if (!source.format->columns.pack(rows, source.n_in / kBlock, panel.n_strips,
                                     strip - panel.first_strip, tiles.data() + panel.offset)) {
      finite.store(false, std::memory_order_relaxed);
    }
  });
  matrix.may_skip = finite.load();
}

}  // namespace

Matrix make_matrix(const MatrixSource& given, bool by_columns, ThreadPool& pool) {
  const auto activity =
      given.zeros_expected && given.n_in % kBlock == 0 ? std::make_shared<Activity>() : nullptr;
  if (given.mapped != nullptr) {
    return {.format = given.format,
            .n_out = given.n_out,
            .n_in = given.n_in,
            .file_rows = given.mapped,
            .activity = activity};
  }
  const MatrixSource source = is_exactly_bf16(given, pool) ? as_bf16(given) : given;
  Matrix matrix{
      .format = source.format, .n_out = source.n_out, .n_in = source.n_in, .activity = activity};
  if (by_columns && activity && source.format->columns.pack != nullptr) {
    matrix.layout = std::make_shared<Layout>();
  }

  const std::size_t bytes = tile_row_bytes(matrix);
  auto tiles = std::make_shared<AlignedBuffer>(matrix.n_tiles() * bytes);
  matrix.tiles = tiles;
  if (matrix.layout) {
    pack_columns(source, *tiles, matrix, pool);
  } else {
    for_file_rows<kTileRows>(source, pool, [&](std::size_t first, const void* const* rows) {
      source.format->pack(rows, matrix.n_units(), tiles->data() + first / kTileRows * bytes);
    });
  }
  return matrix;
}

std::size_t panel_strips(const Matrix& matrix) noexcept {
  std::size_t strips = (matrix.n_strips() + 1) / 2;
  while (strips > kLongestRun) strips = (strips + 1) / 2;
  return strips;
}

std::size_t panel_bytes(const Matrix& matrix) noexcept {
  return kStripTiles * panel_strips(matrix) * tile_row_bytes(matrix);
}

ColumnPanel column_panel(const Matrix& matrix, std::size_t strip) noexcept {
  const std::size_t length = panel_strips(matrix), first = strip / length * length;
  return {kStripTiles * first * tile_row_bytes(matrix), first,
          std::min(length, matrix.n_strips() - first)};
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
