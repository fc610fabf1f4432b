#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ios>
#include <sstream>
#include <stdexcept>

#include "core/error.h"
#include "model/registry.h"
#include "ops/device.h"

namespace rwkvcpp {
namespace {

constexpr int kMaxThreads = 1024;

/// Rows that meet the head at a time: enough to be as fast per row as more, few
/// because a row of logits is 256 kB.
constexpr std::size_t kLogitRows = 32;

const ModelOptions& checked(const ModelOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    throw std::invalid_argument("threads is " + std::to_string(options.threads) +
                                ", expected 1 to " + std::to_string(kMaxThreads) +
                                ", or 0 for the default");
  }
  if (!(options.group_norm_eps >= 0) || !std::isfinite(options.group_norm_eps)) {
    throw std::invalid_argument("group_norm_eps is " + std::to_string(options.group_norm_eps) +
                                ", expected a number that is not negative");
  }
  return options;
}

Config make_config(const ModelFile& file, const Version& version, const ModelOptions& options) {
  Config config = read_config(file, version);
  config.group_norm_eps = options.group_norm_eps;
  return config;
}

/// What files of the same weights have in common, whatever their container and
/// weight types. Of the version the architecture only: 5.0, 5.1 and 5.2 differ in
/// their tensors, and web-rwkv's files make 5.1 look like 5.2.
std::string identity_of(const Config& config, const BoundWeights& weights) {
  std::string bytes = "RWKV " + config.version.substr(0, config.version.find('.'));
  for (const std::size_t n :
       {config.n_vocab, config.n_embd, config.n_layer, config.n_ffn, config.head_size}) {
    bytes += ' ';
    bytes += std::to_string(n);
  }
  for (const auto& [name, vector] : weights.shifts) bytes += "\n" + name + " " + vector;
  return bytes;
}

/// What decides the last bit of a logit: every weight as far as samples show it,
/// the epsilons, and what block weights are multiplied with.
std::string exact_identity_of(const Config& config, const ModelOptions& options,
                              const BoundWeights& weights) {
  std::ostringstream bytes;
  bytes << std::hexfloat << config.layer_norm_eps << ' ' << config.group_norm_eps << ' '
        << config.rescale_every_n_layers << (options.float_activations ? " float32" : " int8");
  for (const auto& [name, sample] : weights.samples) bytes << '\n' << name << ' ' << sample;
  return bytes.str();
}

std::string description(const Config& config) {
  return "RWKV " + config.version + ", " + std::to_string(config.n_layer) + " layers of " +
         std::to_string(config.n_embd);
}

/// The states of a call as they were before it, put back unless all went well.
class Backup {
 public:
  explicit Backup(std::span<const Sequence> batch) : batch_(batch) {
    for (const Sequence& sequence : batch) {
      AlignedBuffer& copy = copies_.emplace_back(sequence.state->n_bytes());
      std::memcpy(copy.data(), sequence.state->data(), copy.size());
    }
  }

  void restore() noexcept {
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      std::memcpy(batch_[i].state->data(), copies_[i].data(), copies_[i].size());
    }
  }

 private:
  std::span<const Sequence> batch_;
  std::vector<AlignedBuffer> copies_;
};

std::vector<std::unique_lock<State>> claim_all(std::span<const Sequence> batch) {
  std::vector<std::unique_lock<State>> locks;
  for (const Sequence& sequence : batch) locks.push_back(claim(*sequence.state));
  return locks;
}

std::size_t count_tokens(std::span<const Sequence> batch) {
  std::size_t n = 0;
  for (const Sequence& sequence : batch) n += sequence.tokens.size();
  return n;
}

void check_room(std::size_t n_given, const char* what, std::size_t n_rows, std::size_t width) {
  if (n_given == n_rows * width) return;
  throw std::invalid_argument("room for " + std::to_string(n_given) + " " + what +
                              " was given, expected " + std::to_string(n_rows) + " x " +
                              std::to_string(width));
}

}  // namespace

/// Consecutive tokens of one sequence of the batch.
struct Model::Piece {
  std::size_t sequence;
  std::size_t begin;
  std::size_t n_tokens;
  bool ends_sequence;
};

/// Pieces that go through the layers together.
struct Model::Chunk {
  std::vector<Piece> pieces;
  std::size_t n_rows = 0;
};

/// What a call gives back.
struct Model::Output {
  bool every_row;  // or only each sequence's last
  bool hidden;     // what the head would meet, or the logits that it makes of it
  float* next;     // where the next row goes
};

// Loading.

std::unique_ptr<Model> Model::load(const std::string& path, const ModelOptions& options,
                                   const Progress& progress) {
  checked(options);  // before the file: what the caller said is known first
  return load(ModelFile::open(path), options, progress);
}

std::unique_ptr<Model> Model::load(std::shared_ptr<const ModelFile> file,
                                   const ModelOptions& options, const Progress& progress) {
  return std::unique_ptr<Model>(new Model(std::move(file), options, progress));
}

Model::Model(std::shared_ptr<const ModelFile> file, const ModelOptions& options,
             const Progress& progress)
    : options_(checked(options)),
      file_(std::move(file)),
      version_(detect_version(*file_)),
      config_(make_config(*file_, version_, options_)),
      ops_(make_ops("cpu", {options_.threads, options_.float_activations, options_.collect})),
      scratch_(*ops_) {
  load_weights(progress);
  make_rows();
}

void Model::load_weights(const Progress& progress) {
  const std::size_t c = config_.n_embd;
  WeightBinder weights(*file_, *ops_, options_.mmap, options_.types, progress);
  StateLayout layout = version_.state_layout(config_);

  embedding_ = weights.table("emb.weight", config_.n_vocab, c);
  ln0_ = weights.norm("blocks.0.ln0", c, config_.layer_norm_eps);
  layers_ = version_.build({config_, layout, weights, *ops_, scratch_});
  ln_out_ = weights.norm("ln_out", c, config_.layer_norm_eps);
  head_ = weights.matrix("head.weight", config_.n_vocab, c);
  for (const std::string_view name : version_.unused) weights.ignore(name);
  weights_ = weights.finish();

  layout.identity = identity_of(config_, weights_);
  exact_identity_ = exact_identity_of(config_, options_, weights_);
  layout.description = description(config_);
  state_layout_ = std::make_shared<const StateLayout>(std::move(layout));
}

void Model::make_rows() {
  embedded_ = &scratch_.rows(config_.n_embd);
  x_ = &scratch_.rows(config_.n_embd);
  chosen_ = ops_->make_rows(kLogitRows, config_.n_embd);
  normed_ = ops_->make_rows(kLogitRows, config_.n_embd);
  logits_ = ops_->make_rows(kLogitRows, config_.n_vocab);
  ops_->reserve(kChunkRows, std::max(layers_->max_group_inputs(), config_.n_embd), config_.n_embd);
}

std::vector<MixingZeros> Model::zeros() {
  const std::lock_guard lock(mutex_);
  std::vector<MixingZeros> layers;
  for (const MixingActivity& layer : weights_.activity) {
    layers.push_back({layer.seen->n_inputs, layer.seen->n_active, layer.skippable_bytes,
                      layer.layout && layer.layout->by_columns});
  }
  return layers;
}

std::vector<Importance> Model::importances() {
  if (!options_.collect) {
    throw std::invalid_argument("the model of " + file_->path +
                                " collects no importances, expected one loaded with collect");
  }
  const std::lock_guard lock(mutex_);
  std::vector<Importance> all;
  for (const MatrixInputs& matrix : weights_.inputs) all.push_back({matrix.name, *matrix.moments});
  return all;
}

// Checks.

void Model::check_token(std::int64_t token, std::size_t position) const {
  if (token >= 0 && static_cast<std::uint64_t>(token) < config_.n_vocab) return;
  throw std::out_of_range("token " + std::to_string(token) + " at position " +
                          std::to_string(position) + " is out of range, n_vocab is " +
                          std::to_string(config_.n_vocab));
}

void Model::check(std::span<const Sequence> batch) const {
  if (batch.empty()) throw std::invalid_argument("no sequence was given, expected at least one");
  std::vector<const State*> states;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& [tokens, state] = batch[i];
    if (tokens.empty()) {
      throw std::invalid_argument("sequence " + std::to_string(i) +
                                  " has no tokens, expected at least one");
    }
    for (std::size_t t = 0; t < tokens.size(); ++t) check_token(tokens[t], t);
    if (!state->matches(*state_layout_)) {
      throw StateError("the state of sequence " + std::to_string(i) + " (" +
                       state->layout().description + ") belongs to other weights than " +
                       file_->path + " (" + state_layout_->description + ")");
    }
    states.push_back(state);
  }
  std::ranges::sort(states);
  if (std::ranges::adjacent_find(states) != states.end()) {
    throw StateError("a state is given twice in one call, expected one per sequence");
  }
}

// Running.

void Model::forward(std::span<const Sequence> batch, bool all_logits, std::span<float> logits,
                    const std::function<void()>& between_chunks) {
  check(batch);
  const std::size_t n_rows = all_logits ? count_tokens(batch) : batch.size();
  check_room(logits.size(), "logits", n_rows, config_.n_vocab);
  take_turn(batch, {.every_row = all_logits, .hidden = false, .next = logits.data()},
            between_chunks);
}

void Model::hidden(std::span<const Sequence> batch, std::span<float> rows,
                   const std::function<void()>& between_chunks) {
  check(batch);
  check_room(rows.size(), "numbers", count_tokens(batch), config_.n_embd);
  take_turn(batch, {.every_row = true, .hidden = true, .next = rows.data()}, between_chunks);
}

void Model::take_turn(std::span<const Sequence> batch, Output output,
                      const std::function<void()>& between_chunks) {
  const auto locks = claim_all(batch);
  const std::lock_guard turn(mutex_);
  if (options_.mmap) file_->check_size();
  run(cut(batch), batch, output, between_chunks);
  for (const Sequence& sequence : batch) sequence.state->consumed(sequence.tokens);
}

std::vector<Model::Chunk> Model::cut(std::span<const Sequence> batch) {
  std::vector<Chunk> chunks(1);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::size_t n_tokens = batch[i].tokens.size();
    for (std::size_t begin = 0; begin < n_tokens;) {
      if (chunks.back().n_rows == kChunkRows) chunks.emplace_back();
      Chunk& chunk = chunks.back();
      const std::size_t n = std::min(n_tokens - begin, kChunkRows - chunk.n_rows);
      chunk.pieces.push_back({i, begin, n, begin + n == n_tokens});
      chunk.n_rows += n;
      begin += n;
    }
  }
  return chunks;
}

void Model::run(const std::vector<Chunk>& chunks, std::span<const Sequence> batch, Output& output,
                const std::function<void()>& between_chunks) {
  if (chunks.size() == 1) {  // nothing can throw once a state has changed
    run_chunk(chunks[0], batch, output);
    return;
  }
  Backup backup(batch);
  try {
    for (const Chunk& chunk : chunks) {
      run_chunk(chunk, batch, output);
      if (between_chunks) between_chunks();
    }
  } catch (...) {
    backup.restore();
    throw;
  }
}

void Model::run_chunk(const Chunk& chunk, std::span<const Sequence> batch, Output& output) {
  std::vector<Segment> segments;
  std::vector<std::size_t> wanted;  // rows
  std::size_t row = 0;
  for (const Piece& piece : chunk.pieces) {
    segments.push_back({row, piece.n_tokens, batch[piece.sequence].state->data()});
    for (std::size_t i = 0; i < piece.n_tokens; ++i, ++row) {
      const bool last = piece.ends_sequence && i + 1 == piece.n_tokens;
      if (output.every_row || last) wanted.push_back(row);
    }
  }
  scratch_.use(chunk.n_rows);
  embed(chunk, batch);
  run_layers(segments);
  write(wanted, output);
}

void Model::embed(const Chunk& chunk, std::span<const Sequence> batch) {
  std::size_t row = 0;
  for (const Piece& piece : chunk.pieces) {
    for (const TokenId token : batch[piece.sequence].tokens.subspan(piece.begin, piece.n_tokens)) {
      embedding_->dequantize(static_cast<std::size_t>(token), 1, embedded_->row(row++));
    }
  }
  ops_->layer_norm(*embedded_, ln0_, *x_);
}

void Model::run_layers(Segments segments) {
  const std::size_t every = config_.rescale_every_n_layers;
  for (std::size_t i = 0; i < config_.n_layer; ++i) {
    layers_->time_mix(i, *x_, segments);
    layers_->channel_mix(i, *x_, segments);
    if (every != 0 && (i + 1) % every == 0) ops_->scale(*x_, 0.5F);
  }
}

void Model::write(std::span<const std::size_t> rows, Output& output) {
  for (std::size_t begin = 0; begin < rows.size(); begin += kLogitRows) {
    const auto some = rows.subspan(begin, std::min(kLogitRows, rows.size() - begin));
    const Rows normed = run_norm(some);
    const Rows result = output.hidden ? normed : run_head(normed);
    for (std::size_t i = 0; i < result.n_rows; ++i) {
      std::memcpy(output.next, result.row(i), result.n_cols * sizeof(float));
      output.next += result.n_cols;
    }
  }
}

Rows Model::run_norm(std::span<const std::size_t> rows) {
  const Rows chosen = chosen_.first(rows.size());
  const Rows normed = normed_.first(rows.size());
  ops_->gather(*x_, rows, chosen);
  ops_->layer_norm(chosen, ln_out_, normed);
  return normed;
}

Rows Model::run_head(Rows normed) {
  const Rows result = logits_.first(normed.n_rows);
  ops_->matmul({&head_, normed, result});
  return result;
}

}  // namespace rwkvcpp
