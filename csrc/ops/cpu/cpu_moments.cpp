// What matrices are multiplied with, summed up: sums of squares, and a sketch of the matrix of
// second moments, its product with random signs, from which its largest directions can be told.
//
// Row after row for each input, so that no sum depends on how rows were cut into calls, nor on the
// number of threads.
#include <algorithm>
#include <array>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/scratch.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kSketch = InputMoments::kSketch;
constexpr std::size_t kInputsAtOnce = 32;

using Signed = std::array<float, kSketch>;  // sums of a row's inputs, with the signs of each column

std::vector<Signed> all_signs(std::size_t n_inputs) {
  std::vector<Signed> signs(n_inputs);
  for (std::size_t i = 0; i < n_inputs; ++i) signs[i] = sketch_signs(i);
  return signs;
}

Signed signed_sums(const float* row, const std::vector<Signed>& signs) noexcept {
  Signed sums{};
  for (std::size_t i = 0; i < signs.size(); ++i) {
    if (row[i] == 0.0f) continue;  // most of what ReLU^2 leaves
    for (std::size_t k = 0; k < kSketch; ++k) sums[k] += row[i] * signs[i][k];
  }
  return sums;
}

void add_input(const Rows& x, std::size_t i, const std::vector<Signed>& sums,
               InputMoments& moments) noexcept {
  float* sketch = moments.sketch.data() + i * kSketch;
  for (std::size_t r = 0; r < x.n_rows; ++r) {
    const float value = x.row(r)[i];
    if (value == 0.0f) continue;
    moments.squares[i] += static_cast<double>(value) * value;
    for (std::size_t k = 0; k < kSketch; ++k) sketch[k] += value * sums[r][k];
  }
}

}  // namespace

void CpuOps::add_moments(const Product& p) {
  InputMoments& moments = *p.weight->moments;
  const std::vector<Signed> signs = all_signs(p.weight->n_in);
  for (const Panel& panel : panels_) {
    const Rows x = rows_of_panel(p.x, panel, 0);
    std::vector<Signed> sums(x.n_rows);
    pool_.run(x.n_rows, [&](std::size_t r, int) { sums[r] = signed_sums(x.row(r), signs); });
    const std::size_t n_pieces = (signs.size() + kInputsAtOnce - 1) / kInputsAtOnce;
    pool_.run(n_pieces, [&](std::size_t piece, int) {
      const std::size_t end = std::min(signs.size(), (piece + 1) * kInputsAtOnce);
      for (std::size_t i = piece * kInputsAtOnce; i < end; ++i) add_input(x, i, sums, moments);
    });
  }
  moments.n_rows += p.x.rows.n_rows;
}

}  // namespace rwkvcpp
