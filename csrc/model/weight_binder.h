// Takes weights out of a model file by name: checks their shapes, uploads
// matrices, makes vectors float32, and knows in the end what nobody asked for.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/aligned_buffer.h"
#include "io/model_file.h"
#include "model/weight_rows.h"
#include "ops/ops.h"

namespace rwkvcpp {

/// Bytes of weights taken so far, and in all. May throw to end the loading.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Types that tensors get while they are loaded, by name; the others keep theirs.
using TypeMap = std::map<std::string, WeightType>;

/// The two meanings of a token-shift vector mu. Ops know the second only.
enum class Lerp {
  kWeighsCurrent,   // versions 4 and 5: x mu + p (1 - mu)
  kWeighsPrevious,  // versions 6 and 7: x + (p - x) mu
};

/// A projection through few channels: y = second(first(x)).
struct LowRank {
  Matrix first;   // [rank, n_in]
  Matrix second;  // [n_out, rank]

  std::size_t rank() const noexcept { return first.n_out; }
};

/// What is left of a binder when a model has all its weights.
/// What a layer's ffn.value has seen of its inputs.
struct MixingActivity {
  std::shared_ptr<const Activity> seen;
  std::shared_ptr<const Layout> layout;  // null: by tiles, for good
  std::uint64_t skippable_bytes;         // of the matrix, when all inputs are zero
};

/// What a matrix, or all that are stacked in one tensor, was multiplied with.
struct MatrixInputs {
  std::string name;
  std::shared_ptr<const InputMoments> moments;
};

struct BoundWeights {
  std::vector<AlignedBuffer> vectors;          // the models' const float* point into these
  std::map<std::string, std::string> shifts;   // token-shift vectors, rounded, by name
  std::map<std::string, std::string> samples;  // of all tensors: type, shape and some bytes
  std::uint64_t packed_bytes = 0;              // of matrices, in memory
  std::uint64_t bytes_per_token = 0;           // of matrices, that one token reads
  std::array<std::uint64_t, kWeightTypes> layer_weights = {};  // matrix elements in blocks, by type

  std::vector<MixingActivity> activity;  // of the layers
  std::vector<MatrixInputs> inputs;      // of the matrices, where they are collected

  /// The type that most weights of the layers have.
  WeightType main_type() const noexcept;
};

class WeightBinder {
 public:
  WeightBinder(const ModelFile& file, Ops& ops, bool mapped, const TypeMap& types,
               Progress progress);

  Matrix matrix(const std::string& name, std::size_t n_out, std::size_t n_in);
  /// A matrix many of whose inputs will be zero.
  Matrix behind_relu(const std::string& name, std::size_t n_out, std::size_t n_in);
  /// One tensor [N n_out, n_in] as N matrices [n_out, n_in].
  template <std::size_t N>
  std::array<Matrix, N> stacked(const std::string& name, std::size_t n_out, std::size_t n_in);
  LowRank low_rank(const std::string& first, const std::string& second, std::size_t n_out,
                   std::size_t n_in);
  /// Outputs of a matrix whose height only the file knows.
  std::size_t n_out(const std::string& name) const;

  using Transform = float (*)(float);
  /// A vector [n]; one value per channel may also come as [heads, n / heads].
  const float* vector(const std::string& name, std::size_t n, Transform transform = nullptr);
  /// A vector [n_head n] from one value per channel, or from one per head.
  const float* per_head(const std::string& name, std::size_t n_head, std::size_t n,
                        Transform transform = nullptr);
  const float* token_shift(const std::string& name, std::size_t n, Lerp lerp);
  Norm norm(const std::string& name, std::size_t n, float eps);

  /// A table that stays in the file; its rows are read when they are needed.
  WeightRows table(const std::string& name, std::size_t n_rows, std::size_t n_cols);
  /// A tensor that may be there and is of no use.
  void ignore(std::string_view name) { consumed_.emplace(name); }

  bool has(const std::string& name) const noexcept { return file_.find(name) != nullptr; }
  bool decay_applied() const noexcept { return file_.decay_applied; }

  /// UnsupportedError when tensors are left over: the model is not what it seemed.
  BoundWeights finish();

 private:
  const TensorInfo& find(const std::string& name) const;
  const TensorInfo& take_matrix(const std::string& name, std::size_t n_out, std::size_t n_in);
  WeightRows rows_of(const TensorInfo& tensor) const;
  Matrix upload(const TensorInfo& tensor, const WeightRows& rows, std::size_t first_row,
                std::size_t n_out, bool zeros_expected = false);
  AlignedBuffer read_vector(const TensorInfo& tensor);
  const float* keep(AlignedBuffer values);
  void sample(const TensorInfo& tensor, const WeightRows& rows);
  void count(const TensorInfo& tensor);

  const ModelFile& file_;
  Ops& ops_;
  bool mapped_;
  const TypeMap& types_;
  Progress progress_;
  std::uint64_t bytes_done_ = 0;
  std::uint64_t bytes_total_ = 0;
  std::set<std::string> consumed_;
  BoundWeights bound_;
};

template <std::size_t N>
std::array<Matrix, N> WeightBinder::stacked(const std::string& name, std::size_t n_out,
                                            std::size_t n_in) {
  const TensorInfo& tensor = take_matrix(name, N * n_out, n_in);
  const WeightRows rows = rows_of(tensor);
  std::array<Matrix, N> parts;
  for (std::size_t i = 0; i < N; ++i) parts[i] = upload(tensor, rows, i * n_out, n_out);
  count(tensor);
  return parts;
}

}  // namespace rwkvcpp
