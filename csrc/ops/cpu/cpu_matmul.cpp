// A group of products as one parallel region: pack the inputs, cut all products
//  into small pieces, let each piece finish its outputs.
#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed_matrix.h"
#include "ops/cpu/scratch.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kPieceBytes = 96 << 10;    // of weights: some microseconds of memory time
constexpr std::size_t kPieceOutputs = 16 << 10;  // floats that wait for their epilogue
constexpr std::size_t kWorthSharing = 32768;     // floats to quantize

/// Tiles per piece: small enough to share out fairly, large enough to be worth taking.
std::size_t tiles_per_piece(const Matrix& weight, std::size_t n_rows, bool mapped) {
  if (mapped) return 1;  // each worker's scratch holds one packed tile row
  const std::size_t by_bytes = kPieceBytes / std::max<std::size_t>(1, tile_row_bytes(weight));
  const std::size_t by_outputs = kPieceOutputs / (kTileRows * n_rows);
  return std::max<std::size_t>(1, std::min(by_bytes, by_outputs));
}

}  // namespace

void CpuOps::reserve(std::size_t max_rows, std::size_t max_group_inputs) {
  workers_.clear();
  for (int i = 0; i < pool_.n_threads(); ++i) {
    const std::size_t outputs = std::max(kPieceOutputs, kTileRows * max_rows);
    workers_.push_back({AlignedBuffer(outputs * sizeof(float)), AlignedBuffer(largest_tile_row_)});
  }
  const std::size_t n_blocks = max_rows * (max_group_inputs / kBlock + 1);
  int8_inputs_ = AlignedBuffer(n_blocks * sizeof(ActivationBlock));
  float_inputs_ = AlignedBuffer(max_rows * max_group_inputs * sizeof(float));
  inputs_.reserve(32);
  panels_.reserve(max_rows);
  pieces_.reserve(1 << 16);
  previous_.resize(max_rows);
}

bool CpuOps::needs_int8(const Product& product) const noexcept {
  return !float_activations_ && !product.weight->format->is_float;
}

const CpuOps::Input& CpuOps::input_of(const Product& product) const noexcept {
  return *std::ranges::find_if(inputs_,
                               [&](const Input& i) { return i.rows.data == product.x.data; });
}

/// Lists the distinct inputs, and gives each the forms that its products read.
void CpuOps::list_inputs(std::span<const Product> group) {
  inputs_.clear();
  auto* next_blocks = int8_inputs_.as<ActivationBlock>();
  auto* next_floats = float_inputs_.as<float>();
  for (const Product& p : group) {
    auto input =
        std::ranges::find_if(inputs_, [&](const Input& i) { return i.rows.data == p.x.data; });
    if (input == inputs_.end()) input = inputs_.insert(input, Input{p.x, nullptr, nullptr});
    if (needs_int8(p)) {
      if (input->blocks != nullptr) continue;
      input->blocks = next_blocks;
      next_blocks += p.x.n_rows * input->n_blocks();
    } else if (input->floats == nullptr) {
      input->floats = p.x.n_rows == 1 ? p.x.data : next_floats;  // one row is a panel as it is
      next_floats += p.x.n_rows * p.x.n_cols;
    }
  }
}

void CpuOps::pack_panel(const Input& input, std::size_t first, std::size_t n_rows) {
  const Rows& x = input.rows;
  if (input.blocks != nullptr) {
    for (std::size_t r = 0; r < n_rows; ++r) {
      table_.quantize(x.row(first + r), input.n_blocks(),
                      input.blocks + first * input.n_blocks() + r, n_rows);
    }
  }
  if (input.floats != nullptr && input.floats != x.data) {
    table_.interleave(x.row(first), x.stride, n_rows, x.n_cols, input.floats + first * x.n_cols);
  }
}

void CpuOps::pack_inputs(std::span<const Product> group) {
  list_inputs(group);
  const std::size_t n_rows = group.front().x.n_rows;
  panels_.clear();
  for (std::size_t row = 0; row < n_rows; row += panels_.back().n_rows) {
    panels_.push_back({row, kernels::panel_rows(row, n_rows, table_.max_rows)});
  }
  std::size_t n_floats = 0;
  for (const Input& input : inputs_) n_floats += n_rows * input.rows.n_cols;
  const auto pack = [&](std::size_t piece, int) {
    const Panel& panel = panels_[piece % panels_.size()];
    pack_panel(inputs_[piece / panels_.size()], panel.first, panel.n_rows);
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
    const std::size_t step = tiles_per_piece(weight, group[i].x.n_rows, !weight.tiles);
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
  args.n_rows = p.x.n_rows;
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
