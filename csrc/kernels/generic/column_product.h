// Weights by columns: which kernel takes how many rows, and the slots of the table.
#pragma once

#include "kernels/generic/column_floats.h"
#include "kernels/generic/column_runs.h"
#include "kernels/generic/column_strips.h"
#include "kernels/generic/column_turns.h"

namespace rwkvcpp::kernels {
namespace {

template <class S, class F>
void columns_product(const ColumnArgs& a) noexcept {
  if (a.n_rows == 1 || a.active != nullptr) {
    columns_by_runs<S, F>(a);
  } else {
    columns_by_strips<S, F>(a);
  }
}

template <class S, class F>
void fill_columns(KernelTable& table) noexcept {
  if constexpr (F::kHasColumns) {
    const auto type = static_cast<std::size_t>(F::kType);
    table.turn_to_tiles[type] = turn_to_tiles<S, F>;
    table.turn_to_columns[type] = turn_to_columns<S, F>;
    if constexpr (F::kIsFloat) {
      table.columns[type] = columns_of_floats<S, F>;
    } else {
      table.columns[type] = columns_product<S, F>;
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
