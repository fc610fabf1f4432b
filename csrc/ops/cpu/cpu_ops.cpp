#include "ops/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "kernels/dispatch.h"
#include "ops/cpu/packed_matrix.h"
#include "ops/cpu/scratch.h"
#include "ops/device.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kWorthSharing = 16384;  // elements; less costs more than a barrier
constexpr std::size_t kAliasing = 2048;       // bytes: rows a multiple apart share few cache sets

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const OpsOptions& options) {
  return std::make_unique<CpuOps>(options, kernels::active_table());
}

CpuOps::CpuOps(const OpsOptions& options, const kernels::KernelTable& table)
    : table_(table),
      float_activations_(options.float_activations),
      collect_moments_(options.collect_moments),
      skipping_(options.skipping),
      pool_(options.n_threads) {}

/// Block weights that meet floats have no kernels by columns: they are for measuring quality.
bool CpuOps::takes_columns(const MatrixSource& source) const noexcept {
  return source.zeros_expected && skipping_ != Skipping::kNever &&
         (source.format->is_float || !float_activations_);
}

Matrix CpuOps::upload(const MatrixSource& given) {
  Matrix matrix = make_matrix(given, takes_columns(given), pool_);
  if (!matrix.tiles) largest_tile_row_ = std::max(largest_tile_row_, tile_row_bytes(matrix));
  if (matrix.layout) largest_panel_ = std::max(largest_panel_, panel_bytes(matrix));
  if (collect_moments_) {
    matrix.moments = std::make_shared<InputMoments>();
    matrix.moments->squares.resize(matrix.n_in);
    matrix.moments->sketch.resize(matrix.n_in * InputMoments::kSketch);
  }
  return matrix;
}

Rows CpuOps::make_rows(std::size_t n_rows, std::size_t n_cols) {
  std::size_t stride = round_up(n_cols, kTileRows);
  if (stride * sizeof(float) % kAliasing == 0) stride += kTileRows;
  rows_.emplace_back(n_rows * stride * sizeof(float));
  return {rows_.back().as<float>(), n_rows, n_cols, stride};
}

template <class Body>
void CpuOps::for_rows(std::size_t n_rows, std::size_t n_cols, Body body) {
  const std::size_t step =
      std::max<std::size_t>(1, kWorthSharing / std::max<std::size_t>(1, n_cols));
  pool_.run((n_rows + step - 1) / step, [&](std::size_t piece, int) {
    const std::size_t end = std::min(n_rows, (piece + 1) * step);
    for (std::size_t row = piece * step; row < end; ++row) body(row);
  });
}

void CpuOps::layer_norm(Rows x, const Norm& norm, Rows out) {
  for_rows(x.n_rows, x.n_cols, [&](std::size_t row) {
    table_.layer_norm({x.row(row), norm.weight, norm.bias, norm.eps, x.n_cols, out.row(row)});
  });
}

void CpuOps::token_shift(Rows x, Segments segments, std::size_t offset) {
  shifted_ = x;
  const std::size_t bytes = x.n_cols * sizeof(float);
  float* carried = carried_.as<float>();
  for (const Segment& s : segments) {
    std::memcpy(carried, s.state + offset, bytes);
    std::memcpy(s.state + offset, x.row(s.begin + s.n_rows - 1), bytes);
    previous_[s.begin] = carried;
    for (std::size_t i = 1; i < s.n_rows; ++i) previous_[s.begin + i] = x.row(s.begin + i - 1);
    carried += x.n_cols;
  }
}

void CpuOps::to_predecessor(Rows out) {
  for_rows(out.n_rows, out.n_cols, [&](std::size_t row) {
    table_.token_shift({shifted_.row(row), previous_[row], nullptr, out.n_cols, out.row(row)});
  });
}

void CpuOps::scale(Rows x, float factor) {
  for_rows(x.n_rows, x.n_cols,
           [&](std::size_t row) { table_.scale(x.row(row), factor, x.n_cols); });
}

void CpuOps::gather(Rows x, std::span<const std::size_t> rows, Rows out) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.row(i), x.row(rows[i]), x.n_cols * sizeof(float));
  }
}

}  // namespace rwkvcpp
