// A group of products as one parallel region: quantize the inputs, cut all
// products into small pieces, let each piece finish its outputs.
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

struct Panel {
  std::size_t first, n_rows;
};

Panel panel_of(std::size_t row, std::size_t n_rows, std::size_t max_rows) {
  Panel panel{row / max_rows * max_rows, 0};
  panel.n_rows = kernels::panel_rows(panel.first, n_rows, max_rows);
  while (row >= panel.first + panel.n_rows) {
    panel.first += panel.n_rows;
    panel.n_rows = kernels::panel_rows(panel.first, n_rows, max_rows);
  }
  return panel;
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
  inputs_.reserve(32);
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

/// Lists the distinct inputs and quantizes those that block weights read.
void CpuOps::quantize_inputs(std::span<const Product> group) {
  inputs_.clear();
  auto* next = int8_inputs_.as<ActivationBlock>();
  std::size_t n_floats = 0;
  for (const Product& p : group) {
    auto known =
        std::ranges::find_if(inputs_, [&](const Input& i) { return i.rows.data == p.x.data; });
    if (known == inputs_.end()) known = inputs_.insert(known, Input{p.x, nullptr});
    if (!needs_int8(p) || known->blocks != nullptr) continue;
    known->blocks = next;
    next += p.x.n_rows * known->n_blocks();
    n_floats += p.x.n_rows * p.x.n_cols;
  }
  if (n_floats == 0) return;

  const std::size_t n_rows = group.front().x.n_rows;
  const auto quantize_row = [&](const Input& input, std::size_t row) {
    if (input.blocks == nullptr) return;
    const Panel panel = panel_of(row, n_rows, table_.max_rows);
    table_.quantize(input.rows.row(row), input.n_blocks(),
                    input.blocks + panel.first * input.n_blocks() + (row - panel.first),
                    panel.n_rows);
  };
  if (n_floats < kWorthSharing) {
    for (const Input& input : inputs_) {
      for (std::size_t row = 0; row < n_rows; ++row) quantize_row(input, row);
    }
    return;
  }
  pool_.run(inputs_.size() * n_rows,
            [&](std::size_t piece, int) { quantize_row(inputs_[piece / n_rows], piece % n_rows); });
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
  quantize_inputs(group);
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
    args.x = p.x.data;
    args.x_stride = p.x.stride;
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
