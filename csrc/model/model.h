// A model ready to run: one forward for prompts, single tokens and batches.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/model_file.h"
#include "model/config.h"
#include "model/scratch.h"
#include "model/state.h"
#include "model/version.h"
#include "model/weight_binder.h"
#include "ops/ops.h"

namespace rwkvcpp {

struct ModelOptions {
  int threads = 0;                 // 0: default_threads()
  bool float_activations = false;  // block weights meet float32 instead of int8
  bool mmap = false;               // use matrices where the file has them
  float group_norm_eps = 64e-5F;   // rwkv.cpp's version 5 needs 1e-5
  bool collect = false;            // importances(): costs some time
  TypeMap types = {};              // what tensors are quantized to while they are loaded
};

/// What a layer's ffn.value has met since the model was loaded, one token at a time.
struct MixingZeros {
  std::uint64_t n_inputs;
  std::uint64_t n_active;         // of them not zero
  std::uint64_t skippable_bytes;  // of the matrix, when all inputs are zero
  bool by_columns;                // now: so that they can be skipped
};

/// What a matrix was multiplied with since the model was loaded.
struct Importance {
  std::string name;  // of the tensor
  InputMoments inputs;
};

/// One sequence's share of a call: tokens to consume, and the state that does.
struct Sequence {
  std::span<const TokenId> tokens;
  State* state;
};

class Model {
 public:
  static std::unique_ptr<Model> load(const std::string& path, const ModelOptions& options,
                                     const Progress& progress = {});
  static std::unique_ptr<Model> load(std::shared_ptr<const ModelFile> file,
                                     const ModelOptions& options, const Progress& progress = {});

  const ModelFile& file() const noexcept { return *file_; }
  const Config& config() const noexcept { return config_; }
  const ModelOptions& options() const noexcept { return options_; }
  int n_threads() const noexcept { return ops_->n_threads(); }
  std::uint64_t n_barriers() const noexcept { return ops_->n_barriers(); }
  std::uint64_t packed_bytes() const noexcept { return weights_.packed_bytes; }
  std::uint64_t bytes_per_token() const noexcept { return weights_.bytes_per_token; }
  /// Of every layer; waits for a forward pass that is under way.
  std::vector<MixingZeros> zeros();
  /// Of every matrix; std::invalid_argument unless the model collects them.
  std::vector<Importance> importances();
  const Format& main_format() const { return format(weights_.main_type()); }

  /// Bytes that models of the same weights share, however they are stored; and bytes
  /// that only models of the same logits share, to the last bit.
  const std::string& identity() const noexcept { return state_layout_->identity; }
  const std::string& exact_identity() const noexcept { return exact_identity_; }
  const StateLayout& state_layout() const noexcept { return *state_layout_; }

  std::shared_ptr<State> initial_state() const { return std::make_shared<State>(state_layout_); }

  /// Advances every state over its tokens. `logits` is [sequences, n_vocab], after
  /// each one's last token, or with all_logits [all tokens, n_vocab].
  ///
  /// Wrong arguments throw before anything changes: std::invalid_argument,
  /// std::out_of_range (a token), StateError. Long calls work chunk by chunk;
  /// when `between_chunks` or reading the file throws, all states are as before.
  /// Calls from several threads take turns.
  void forward(std::span<const Sequence> batch, bool all_logits, std::span<float> logits,
               const std::function<void()>& between_chunks = {});
  /// The same up to the head, which is left out: `rows` is [all tokens, n_embd], what it would
  /// meet after each token, behind ln_out.
  void hidden(std::span<const Sequence> batch, std::span<float> rows,
              const std::function<void()>& between_chunks = {});

  /// std::out_of_range unless 0 <= token < n_vocab.
  void check_token(std::int64_t token, std::size_t position) const;

 private:
  struct Piece;
  struct Chunk;
  struct Output;

  Model(std::shared_ptr<const ModelFile> file, const ModelOptions& options,
        const Progress& progress);
  void load_weights(const Progress& progress);
  void make_rows();

  void check(std::span<const Sequence> batch) const;
  static std::vector<Chunk> cut(std::span<const Sequence> batch);
  void take_turn(std::span<const Sequence> batch, Output output,
                 const std::function<void()>& between_chunks);
  void run(const std::vector<Chunk>& chunks, std::span<const Sequence> batch, Output& output,
           const std::function<void()>& between_chunks);
  void run_chunk(const Chunk& chunk, std::span<const Sequence> batch, Output& output);
  void embed(const Chunk& chunk, std::span<const Sequence> batch);
  void run_layers(Segments segments);
  void write(std::span<const std::size_t> rows, Output& output);
  Rows run_norm(std::span<const std::size_t> rows);
  Rows run_head(Rows normed);

  // In the order of loading.
  const ModelOptions options_;
  const std::shared_ptr<const ModelFile> file_;
  const Version& version_;
  const Config config_;
  const std::unique_ptr<Ops> ops_;
  Scratch scratch_;
  std::unique_ptr<Layers> layers_;
  std::optional<WeightRows> embedding_;
  Norm ln0_ = {};
  Norm ln_out_ = {};
  Matrix head_;
  BoundWeights weights_;
  std::shared_ptr<const StateLayout> state_layout_;
  std::string exact_identity_;

  // [n_tokens, n_embd], and [n_tokens, n_vocab]
  const Rows* embedded_ = nullptr;
  const Rows* x_ = nullptr;        // the residual
  Rows chosen_, normed_, logits_;  // rows that are wanted
  std::mutex mutex_;
};

}  // namespace rwkvcpp
