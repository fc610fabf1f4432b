// Ops on the CPU: cuts work into pieces for the thread pool and hands them to the
// active kernel table. Rows in cpu_ops.cpp, products in cpu_matmul.cpp, what decides
// how weights lie in cpu_layout.cpp, recurrences in cpu_rwkv.cpp.
#pragma once

#include <vector>

#include "core/thread_pool.h"
#include "kernels/kernel_table.h"
#include "ops/ops.h"

namespace rwkvcpp {

class CpuOps final : public Ops {
 public:
  CpuOps(const OpsOptions& options, const kernels::KernelTable& table);

  Matrix upload(const MatrixSource& source) override;
  Rows make_rows(std::size_t n_rows, std::size_t n_cols) override;
  void reserve(std::size_t max_rows, std::size_t max_group_inputs,
               std::size_t shift_width) override;

  void layer_norm(Rows x, const Norm& norm, Rows out) override;
  void token_shift(Rows x, Segments segments, std::size_t offset) override;
  void to_predecessor(Rows out) override;
  void scale(Rows x, float factor) override;
  void gather(Rows x, std::span<const std::size_t> rows, Rows out) override;

  using Ops::matmul;
  void matmul(std::span<const Product> group) override;

  void wkv4(const Wkv4& op, Segments segments) override;
  void wkv6(const Wkv6& op, Segments segments) override;
  void wkv7(const Wkv7& op, Segments segments) override;

  int n_threads() const noexcept override { return pool_.n_threads(); }
  std::uint64_t n_barriers() const noexcept override { return pool_.n_barriers(); }

 private:
  struct Input;   // what a product reads: rows, and the forms that kernels want
  struct Panel;   // rows that a kernel takes at once
  struct Piece;   // tiles [begin, end) of one product
  struct Worker;  // scratch memory of one thread

  /// Runs body(row) for all rows, in parallel where there is enough to do.
  template <class Body>
  void for_rows(std::size_t n_rows, std::size_t n_cols, Body body);
  /// Runs body(segment, head) for all of both.
  template <class Body>
  void for_heads(Segments segments, std::size_t n_heads, Body body);

  bool needs_int8(const Product& product) const noexcept;
  bool takes_columns(const MatrixSource& source) const noexcept;
  void list_inputs(std::span<const Product> group);
  Rows rows_of_panel(const ProductInput& x, const Panel& panel, int worker);
  void pack_panel(const Input& input, const Panel& panel, int worker);
  void pack_inputs(std::span<const Product> group);
  void find_active(const Product& product, Input& input);
  void add_moments(const Product& product);
  void weigh_layout(const Product& product, const Input& input);
  void turn(const Matrix& weight);
  std::size_t strips_per_piece(const Matrix& weight, std::size_t n_rows) const noexcept;
  void cut_into_pieces(std::span<const Product> group);
  void multiply(const Product& product, const Input& input, const Piece& piece, int worker);
  void multiply_columns(const Product& product, const Input& input, const Piece& piece, float* y,
                        std::size_t y_stride);
  void multiply_tiles(const Product& product, const Input& input, const Piece& piece, float* y,
                      std::size_t y_stride, Worker& scratch);
  Input& input_of(const Product& product) noexcept;

  const kernels::KernelTable& table_;
  bool float_activations_;
  bool collect_moments_;
  Skipping skipping_;
  ThreadPool pool_;
  std::vector<AlignedBuffer> rows_;

  // Scratch, sized by reserve() so that a forward pass allocates nothing.
  std::size_t largest_tile_row_ = 0;  // of mapped matrices
  std::size_t largest_panel_ = 0;     // of matrices by columns
  std::vector<Worker> workers_;
  AlignedBuffer int8_inputs_, float_inputs_;
  std::vector<Input> inputs_;
  std::vector<Panel> panels_;
  std::vector<Piece> pieces_;
  std::vector<kernels::ActiveInputs> active_;
  std::vector<std::int8_t> active_values_;

  // Token shift: the rows last shifted, and where each one's predecessor is.
  Rows shifted_;
  AlignedBuffer carried_;  // predecessors that were in states
  std::vector<const float*> previous_;
};

}  // namespace rwkvcpp
