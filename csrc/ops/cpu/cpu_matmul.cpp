// A group of products as one parallel region: pack the inputs, cut all products
//  into small pieces, let each piece finish its outputs.
#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed_matrix.h"
#include "ops/cpu/scratch.h"
#include "quant/columns.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kPieceBytes = 96 << 10;  // of weights: some microseconds of memory time
constexpr std::size_t kTilesTogether = 4;      // one row of floats takes four tiles at once
constexpr std::size_t kMaxTiles = 64;          // their outputs wait for the epilogue
constexpr std::size_t kManyRows = 16;
constexpr std::size_t kTilesOfManyRows = 4;   // meet each panel of rows while it is in cache
constexpr std::size_t kWorthSharing = 32768;  // floats to quantize

constexpr std::size_t kSkippingRows = 2;  // at most: their active inputs are united
constexpr std::size_t kRowsOfRuns = 8;    // by columns, whole runs for so many rows at most
constexpr std::size_t kStripsOfManyRows = 2;

/// Tiles per piece: small enough to share out fairly, large enough to be worth taking,
/// and as many as kernels take together.
std::size_t tiles_per_piece(const Matrix& weight, std::size_t n_rows) noexcept {
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
        kTileRows * std::max(kPanelRows / kTileRows * max_rows, kMaxTiles * kManyRows);
    workers_.push_back({AlignedBuffer(outputs * sizeof(float)), AlignedBuffer(largest_tile_row_),
                        AlignedBuffer(table_.max_rows * shift_width * sizeof(float)),
                        AlignedBuffer(largest_panel_)});
  }
  const std::size_t n_blocks = max_rows * (max_group_inputs / kBlock + 1);
  int8_inputs_ = AlignedBuffer(n_blocks * sizeof(ActivationBlock));
  float_inputs_ = AlignedBuffer(max_rows * max_group_inputs * sizeof(float));
  carried_ = AlignedBuffer(max_rows * shift_width * sizeof(float));
  active_.resize(max_group_inputs / kBlock + 1);
  active_values_.resize(kSkippingRows * (max_group_inputs + kBlock));
  inputs_.reserve(32);
  panels_.reserve(max_rows);
  pieces_.reserve(1 << 16);
  previous_.resize(max_rows);
}

bool CpuOps::needs_int8(const Product& product) const noexcept {
  return !float_activations_ && !product.weight->format->is_float;
}

CpuOps::Input& CpuOps::input_of(const Product& product) noexcept {
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
    if (input == inputs_.end())
      input = inputs_.insert(input, Input{p.x, nullptr, nullptr, nullptr, nullptr});
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

/// Lists what is not zero in the input of a matrix that expects zeros, and counts it for single
/// rows. A group has at most one such matrix.
void CpuOps::find_active(const Product& p, Input& input) {
  const std::size_t n_rows = p.x.rows.n_rows, n_blocks = input.n_blocks();
  const bool counted = n_rows == 1, skippable = p.weight->may_skip;
  if (!counted && (!skippable || n_rows > kSkippingRows || panels_.size() > 1)) return;
  const bool int8 = needs_int8(p);
  const kernels::ActiveArgs args{int8 ? static_cast<const void*>(input.blocks) : input.floats,
                                 n_rows, n_blocks, active_.data(), active_values_.data()};
  const std::size_t n = int8 ? table_.find_active(args) : table_.find_active_floats(args);
  const std::size_t n_inputs = n_blocks * kBlock;
  if (counted) {
    p.weight->activity->n_inputs += n_inputs;
    p.weight->activity->n_active += n;
  }
  if (!skippable) return;
  input.active_share = static_cast<double>(n) / static_cast<double>(n_inputs);
  if (!p.weight->by_columns()) return;
  if (skipping_ == Skipping::kAuto && input.active_share > kWorthSkipping) return;
  input.active = active_.data();
  input.active_values = active_values_.data();
}

/// By columns, the runs of whole panels, or of as many parts as there are threads; for more rows
/// what of their sums stays in cache.
std::size_t CpuOps::strips_per_piece(const Matrix& weight, std::size_t n_rows) const noexcept {
  if (n_rows > kRowsOfRuns) return kStripsOfManyRows;
  const std::size_t n_strips = weight.n_strips();
  std::size_t strips = panel_strips(weight);
  while (strips > 1 && n_strips < strips * static_cast<std::size_t>(pool_.n_threads())) {
    strips = (strips + 1) / 2;
  }
  return strips;
}

void CpuOps::cut_into_pieces(std::span<const Product> group) {
  pieces_.clear();
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Matrix& weight = *group[i].weight;
    const std::size_t n_rows = group[i].x.rows.n_rows, n_tiles = weight.n_tiles();
    // A piece lies in one panel.
    const std::size_t panel = weight.by_columns() ? kStripTiles * panel_strips(weight) : n_tiles;
    const std::size_t step = weight.by_columns() ? kStripTiles * strips_per_piece(weight, n_rows)
                                                 : tiles_per_piece(weight, n_rows);
    for (std::size_t first = 0; first < n_tiles; first += panel) {
      const std::size_t end = std::min(n_tiles, first + panel);
      for (std::size_t tile = first; tile < end; tile += step) {
        pieces_.push_back({i, tile, std::min(end, tile + step)});
      }
    }
  }
}

void CpuOps::matmul(std::span<const Product> group) {
  pack_inputs(group);
  for (const Product& p : group) {
    if (p.weight->activity) find_active(p, input_of(p));
    if (p.weight->moments) add_moments(p);
  }
  cut_into_pieces(group);
  pool_.run(pieces_.size(), [&](std::size_t i, int worker) {
    const Product& product = group[pieces_[i].product];
    multiply(product, input_of(product), pieces_[i], worker);
  });
  for (const Product& p : group) {
    if (p.weight->layout && skipping_ == Skipping::kAuto) weigh_layout(p, input_of(p));
  }
}

void CpuOps::multiply_columns(const Product& p, const Input& input, const Piece& piece, float* y,
                              std::size_t y_stride) {
  const std::size_t strip = piece.begin / kStripTiles;
  const ColumnPanel panel = column_panel(*p.weight, strip);
  kernels::ColumnArgs args{};
  args.panel = p.weight->tiles->data() + panel.offset;
  args.n_strips = panel.n_strips;
  args.first_strip = strip - panel.first_strip;
  args.end_strip = piece.end / kStripTiles - panel.first_strip;
  args.n_blocks = input.n_blocks();
  args.x = needs_int8(p) ? static_cast<const void*>(input.blocks) : input.floats;
  args.n_rows = p.x.rows.n_rows;
  args.y = y;
  args.y_stride = y_stride;
  args.active = input.active;
  args.active_values = input.active_values;
  table_.columns[static_cast<std::size_t>(p.weight->format->type)](args);
}

void CpuOps::multiply_tiles(const Product& p, const Input& input, const Piece& piece, float* y,
                            std::size_t y_stride, Worker& scratch) {
  const Matrix& weight = *p.weight;
  kernels::MatmulArgs args{};
  args.n_tiles = piece.end - piece.begin;
  args.tiles = packed_tiles(weight, piece.begin, args.n_tiles, scratch.tiles.data());
  args.n_units = weight.n_units();
  args.n_rows = p.x.rows.n_rows;
  args.y = y;
  args.y_stride = y_stride;
  const auto type = static_cast<std::size_t>(weight.format->type);
  if (needs_int8(p)) {
    args.x = input.blocks;
    table_.matmul[type](args);
  } else {
    args.x = input.floats;
    table_.matmul_float[type](args);
  }
}

void CpuOps::multiply(const Product& p, const Input& input, const Piece& piece, int worker) {
  Worker& scratch = workers_[static_cast<std::size_t>(worker)];
  const std::size_t first = piece.begin * kTileRows, width = piece.end * kTileRows - first;
  const bool direct = p.epilogue == Epilogue::kStore && first + width <= p.y.stride;
  float* y = direct ? p.y.data + first : scratch.products.as<float>();
  const std::size_t y_stride = direct ? p.y.stride : width;
  if (p.weight->by_columns()) {
    multiply_columns(p, input, piece, y, y_stride);
  } else {
    multiply_tiles(p, input, piece, y, y_stride, scratch);
  }
  if (direct) return;

  const auto apply = table_.epilogue[static_cast<std::size_t>(p.epilogue)];
  const std::size_t n = std::min(width, p.weight->n_out - first);
  const auto at = [&](const Rows& rows, std::size_t row) {
    return rows ? rows.row(row) + first : nullptr;
  };
  for (std::size_t row = 0; row < p.x.rows.n_rows; ++row) {
    apply({y + row * y_stride, p.y.row(row) + first, p.bias != nullptr ? p.bias + first : nullptr,
           at(p.a, row), at(p.b, row), n});
  }
}

}  // namespace rwkvcpp
