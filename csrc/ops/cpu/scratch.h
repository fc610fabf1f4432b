// The scratch types of CpuOps.
#pragma once

#include "ops/cpu/cpu_ops.h"
#include "quant/activations.h"

namespace rwkvcpp {

inline constexpr double kWorthSkipping = 0.5;  // share of inputs that are not zero, or fewer

struct CpuOps::Input {
  ProductInput x;
  ActivationBlock* blocks;  // panels (kernel_table.h); null: nobody wants int8
  float* floats;            // panels; null: nobody wants floats
  const kernels::ActiveInputs* active = nullptr;  // when zeros are to be left out
  const std::int8_t* active_values = nullptr;
  double active_share = 1;  // of the inputs; 1 when nobody looked, or none may be left out

  std::size_t n_blocks() const noexcept { return x.rows.n_cols / kBlock; }
};

struct CpuOps::Panel {
  std::size_t first, n_rows;
};

struct CpuOps::Piece {
  std::size_t product;
  std::size_t begin, end;  // tiles
};

struct CpuOps::Worker {
  AlignedBuffer products;  // of one piece, before the epilogue
  AlignedBuffer tiles;     // of a mapped matrix
  AlignedBuffer mixed;     // a panel's rows behind token shift
  AlignedBuffer turned;    // a panel of weights on its way from one layout to the other
};

}  // namespace rwkvcpp
