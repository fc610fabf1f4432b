// The scratch types of CpuOps.
#pragma once

#include "ops/cpu/cpu_ops.h"
#include "quant/activations.h"

namespace rwkvcpp {

struct CpuOps::Input {
  Rows rows;
  ActivationBlock* blocks;  // panels (kernel_table.h); null: nobody wants int8

  std::size_t n_blocks() const noexcept { return rows.n_cols / kBlock; }
};

struct CpuOps::Piece {
  std::size_t product;
  std::size_t begin, end;  // tiles
};

struct CpuOps::Worker {
  AlignedBuffer products;  // of one piece, before the epilogue
  AlignedBuffer tiles;     // of a mapped matrix
};

}  // namespace rwkvcpp
