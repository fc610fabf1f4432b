// What matrices are multiplied with, summed up: sums of squares, and a sketch of the matrix of
// second moments, its product with random signs, from which its largest directions can be told.
//
// Row after row for each input, so that no sum depends on how rows were cut into calls, nor on the
// number of threads.
#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/scratch.h"
#include "quant/eight.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kSketch = InputMoments::kSketch;
constexpr std::size_t kInputsAtOnce = 32;
constexpr std::size_t kColumnsAtOnce = 32;

using Signed = std::array<float, kSketch>;  // sums of a row's inputs, with the signs of each column

std::vector<Signed> all_signs(std::size_t n_inputs) {
  std::vector<Signed> signs(n_inputs);
  for (std::size_t i = 0; i < n_inputs; ++i) signs[i] = sketch_signs(i);
  return signs;
}

/// Adds value(n) * of[n] to kSketch sums, for all n of which it is not zero: most of what ReLU^2
/// leaves is. As many columns at a time as there are registers for.
template <class Value>
void add_products(const std::vector<Signed>& of, Value value, float* sums) noexcept {
  for (std::size_t first = 0; first < kSketch; first += kColumnsAtOnce) {
    fit::Eight parts[kColumnsAtOnce / fit::kAbreast];
    std::memcpy(parts, sums + first, sizeof parts);
    for (std::size_t n = 0; n < of.size(); ++n) {
      const float v = value(n);
      if (v == 0.0f) continue;
      fit::Eight columns[kColumnsAtOnce / fit::kAbreast];
      std::memcpy(columns, of[n].data() + first, sizeof columns);
      for (std::size_t k = 0; k < std::size(parts); ++k) parts[k] += columns[k] * v;
    }
    std::memcpy(sums + first, parts, sizeof parts);
  }
}

void add_input(const Rows& x, std::size_t i, const std::vector<Signed>& sums,
               InputMoments& moments) noexcept {
  for (std::size_t r = 0; r < x.n_rows; ++r) {
    moments.squares[i] += static_cast<double>(x.row(r)[i]) * x.row(r)[i];
  }
  add_products(
      sums, [&](std::size_t r) { return x.row(r)[i]; }, moments.sketch.data() + i * kSketch);
}

}  // namespace

void CpuOps::add_moments(const Product& p) {
  InputMoments& moments = *p.weight->moments;
  const std::vector<Signed> signs = all_signs(p.weight->n_in);
  for (const Panel& panel : panels_) {
    const Rows x = rows_of_panel(p.x, panel, 0);
    std::vector<Signed> sums(x.n_rows);
    pool_.run(x.n_rows, [&](std::size_t r, int) {
      const float* row = x.row(r);
      sums[r] = {};
      add_products(
          signs, [row](std::size_t i) { return row[i]; }, sums[r].data());
    });
    const std::size_t n_pieces = (signs.size() + kInputsAtOnce - 1) / kInputsAtOnce;
    pool_.run(n_pieces, [&](std::size_t piece, int) {
      const std::size_t end = std::min(signs.size(), (piece + 1) * kInputsAtOnce);
      for (std::size_t i = piece * kInputsAtOnce; i < end; ++i) add_input(x, i, sums, moments);
    });
  }
  moments.n_rows += p.x.rows.n_rows;
}

}  // namespace rwkvcpp
