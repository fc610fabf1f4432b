// A group of products as one parallel region: pack the inputs, cut all products
//  into small pieces, let each piece finish its outputs.
#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed_matrix.h"
#include "ops/cpu/scratch.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kPieceBytes = 96 << 10;  // of weights: some microseconds of memory time
constexpr std::size_t kTilesTogether = 4;      // one row of floats takes four tiles at once
constexpr std::size_t kMaxTiles = 64;          // their outputs wait for the epilogue
constexpr std::size_t kManyRows = 16;
constexpr std::size_t kTilesOfManyRows = 4;   // meet each panel of rows while it is in cache
constexpr std::size_t kWorthSharing = 32768;  // floats to quantize

/// Tiles per piece: small enough to share out fairly, large enough to be worth taking,
/// and as many as kernels take together.
std::size_t tiles_per_piece(const Matrix& weight, std::size_t n_rows) {
  if (!weight.tiles) return 1;  // mapped: each worker's scratch holds one packed tile row
  if (n_rows >= kManyRows) return kTilesOfManyRows;
  const std::size_t by_bytes = kPieceBytes / std::max<std::size_t>(1, tile_row_bytes(weight));
  return std::clamp<std::size_t>(by_bytes / kTilesTogether * kTilesTogether, kTilesTogether,
                                 kMaxTiles);
}

}  // namespace

void CpuOps::reserve(std::size_t max_rows, std::size_t max_group_inputs, std::size_t shift_width) {
  workers_.clear();
  for (int i = 0; i < pool_.n_threads(); ++i) {
    const std::size_t outputs =
        kTileRows * std::max(kTilesOfManyRows * max_rows, kMaxTiles * kManyRows);
    workers_.push_back({AlignedBuffer(outputs * sizeof(float)), AlignedBuffer(largest_tile_row_),
                        AlignedBuffer(table_.max_rows * shift_width * sizeof(float))});
  }
  const std::size_t n_blocks = max_rows * (max_group_inputs / kBlock + 1);
  int8_inputs_ = AlignedBuffer(n_blocks * sizeof(ActivationBlock));
  float_inputs_ = AlignedBuffer(max_rows * max_group_inputs * sizeof(float));
  carried_ = AlignedBuffer(max_rows * shift_width * sizeof(float));
  inputs_.reserve(32);
  panels_.reserve(max_rows);
  pieces_.reserve(1 << 16);
  previous_.resize(max_rows);
}

bool CpuOps::needs_int8(const Product& product) const noexcept {
  return !float_activations_ && !product.weight->format->is_float;
}

const CpuOps::Input& CpuOps::input_of(const Product& product) const noexcept {
  return *std::ranges::find(inputs_, product.x, &Input::x);
}

/// Lists the distinct inputs, and gives each the forms that its products read.
void CpuOps::list_inputs(std::span<const Product> group) {
  inputs_.clear();
  auto* next_blocks = int8_inputs_.as<ActivationBlock>();
  auto* next_floats = float_inputs_.as<float>();
  for (const Product& p : group) {
    const Rows& rows = p.x.rows;
    auto input = std::ranges::find(inputs_, p.x, &Input::x);
    if (input == inputs_.end()) input = inputs_.insert(input, Input{p.x, nullptr, nullptr});
    if (needs_int8(p)) {
      if (input->blocks != nullptr) continue;
      input->blocks = next_blocks;
      next_blocks += rows.n_rows * input->n_blocks();
    } else if (input->floats == nullptr) {
      const bool is_panel = rows.n_rows == 1 && p.x.mu == nullptr;  // as it is
      input->floats = is_panel ? rows.data : next_floats;
      next_floats += rows.n_rows * rows.n_cols;
    }
  }
}

/// A panel's rows, behind token shift where the products want them so.
Rows CpuOps::rows_of_panel(const ProductInput& x, const Panel& panel, int worker) {
  const Rows& rows = x.rows;
  if (x.mu == nullptr) return {rows.row(panel.first), panel.n_rows, rows.n_cols, rows.stride};
  const Rows mixed{workers_[static_cast<std::size_t>(worker)].mixed.as<float>(), panel.n_rows,
                   rows.n_cols, rows.n_cols};
  for (std::size_t r = 0; r < panel.n_rows; ++r) {
    const std::size_t row = panel.first + r;
    table_.token_shift({rows.row(row), previous_[row], x.mu, rows.n_cols, mixed.row(r)});
  }
  return mixed;
}

void CpuOps::pack_panel(const Input& input, const Panel& panel, int worker) {
  const Rows x = rows_of_panel(input.x, panel, worker);
  if (input.blocks != nullptr) {
    ActivationBlock* blocks = input.blocks + panel.first * input.n_blocks();
    for (std::size_t r = 0; r < panel.n_rows; ++r) {
      table_.quantize(x.row(r), input.n_blocks(), blocks + r, panel.n_rows);
    }
  }
  if (input.floats != nullptr && input.floats != x.data) {
    table_.interleave(x.data, x.stride, x.n_rows, x.n_cols, input.floats + panel.first * x.n_cols);
  }
}

void CpuOps::pack_inputs(std::span<const Product> group) {
  list_inputs(group);
  const std::size_t n_rows = group.front().x.rows.n_rows;
  panels_.clear();
  for (std::size_t row = 0; row < n_rows; row += panels_.back().n_rows) {
    panels_.push_back({row, kernels::panel_rows(row, n_rows, table_.max_rows)});
  }
  std::size_t n_floats = 0;
  for (const Input& input : inputs_) n_floats += n_rows * input.x.rows.n_cols;
  const auto pack = [&](std::size_t piece, int worker) {
    pack_panel(inputs_[piece / panels_.size()], panels_[piece % panels_.size()], worker);
  };
  const std::size_t n_pieces = inputs_.size() * panels_.size();
  if (n_floats >= kWorthSharing) {
    pool_.run(n_pieces, pack);
  } else {
    for (std::size_t piece = 0; piece < n_pieces; ++piece) pack(piece, 0);
  }
}

void CpuOps::cut_into_pieces(std::span<const Product> group) {
  pieces_.clear();
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Matrix& weight = *group[i].weight;
    const std::size_t step = tiles_per_piece(weight, group[i].x.rows.n_rows);
    for (std::size_t tile = 0; tile < weight.n_tiles(); tile += step) {
      pieces_.push_back({i, tile, std::min(weight.n_tiles(), tile + step)});
    }
  }
}

void CpuOps::matmul(std::span<const Product> group) {
  pack_inputs(group);
  cut_into_pieces(group);
  pool_.run(pieces_.size(), [&](std::size_t i, int worker) {
    const Product& product = group[pieces_[i].product];
    multiply(product, input_of(product), pieces_[i], worker);
  });
}

void CpuOps::multiply(const Product& p, const Input& input, const Piece& piece, int worker) {
  const Matrix& weight = *p.weight;
  Worker& scratch = workers_[static_cast<std::size_t>(worker)];
  const std::size_t n_tiles = piece.end - piece.begin;
  const std::size_t first = piece.begin * kTileRows;
  const bool direct = p.epilogue == Epilogue::kStore;

  kernels::MatmulArgs args{};
  args.tiles = packed_tiles(weight, piece.begin, n_tiles, scratch.tiles.data());
  args.n_tiles = n_tiles;
  args.n_units = weight.n_units();
  args.n_rows = p.x.rows.n_rows;
  args.y = direct ? p.y.data + first : scratch.products.as<float>();
  args.y_stride = direct ? p.y.stride : n_tiles * kTileRows;
  const auto type = static_cast<std::size_t>(weight.format->type);
  if (needs_int8(p)) {
    args.x = input.blocks;
    table_.matmul[type](args);
  } else {
    args.x = input.floats;
    table_.matmul_float[type](args);
  }
  if (direct) return;

  const auto apply = table_.epilogue[static_cast<std::size_t>(p.epilogue)];
  const std::size_t n = std::min(n_tiles * kTileRows, weight.n_out - first);
  const auto at = [&](const Rows& rows, std::size_t row) {
    return rows ? rows.row(row) + first : nullptr;
  };
  for (std::size_t row = 0; row < args.n_rows; ++row) {
    apply({args.y + row * args.y_stride, p.y.row(row) + first,
           p.bias != nullptr ? p.bias + first : nullptr, at(p.a, row), at(p.b, row), n});
  }
}

}  // namespace rwkvcpp
