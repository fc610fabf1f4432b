// The activations of a forward pass, allocated once for the longest chunk.
#pragma once

#include <deque>

#include "ops/ops.h"

namespace rwkvcpp {

/// Rows that one call may work on. More would not make the products faster, and
/// memory must not grow with the prompt.
inline constexpr std::size_t kChunkRows = 128;

class Scratch {
 public:
  explicit Scratch(Ops& ops) : ops_(ops) {}

  /// The reference stays valid, and always covers the rows of the current chunk.
  const Rows& rows(std::size_t n_cols) {
    return rows_.emplace_back(ops_.make_rows(kChunkRows, n_cols));
  }

  void use(std::size_t n_rows) noexcept {
    for (Rows& rows : rows_) rows = rows.first(n_rows);
  }

 private:
  Ops& ops_;
  std::deque<Rows> rows_;
};

}  // namespace rwkvcpp
