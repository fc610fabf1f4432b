// RWKV-4 "Dove".
//
// One decaying weighted average per channel. Its sums aa and bb are kept scaled
// by exp(-pp), with pp the largest exponent seen, so that no exp overflows.
#include <algorithm>
#include <cmath>

#include "model/channel_mix_gated.h"
#include "model/version.h"

namespace rwkvcpp {
namespace {

/// So low that the first token's exponent always wins.
constexpr float kNothingSeen = -1e30F;

struct TimeMix {
  Norm ln;
  const float *mix_k, *mix_v, *mix_r;  // token shift
  const float *decay, *bonus;
  Matrix receptance, key, value, output;
  std::size_t shift_state, wkv_state;
};

TimeMix bind_time_mix(const Building& b, std::size_t layer) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string att = block + ".att.";
  const std::size_t c = b.config.n_embd;
  WeightBinder& w = b.weights;
  // In double: every way to this number, a converter's too, rounds it once and alike.
  const auto log_decay = [](float raw) {
    return static_cast<float>(-std::exp(static_cast<double>(raw)));
  };
  return {
      .ln = w.norm(block + ".ln1", c, b.config.layer_norm_eps),
      .mix_k = w.token_shift(att + "time_mix_k", c, Lerp::kWeighsCurrent),
      .mix_v = w.token_shift(att + "time_mix_v", c, Lerp::kWeighsCurrent),
      .mix_r = w.token_shift(att + "time_mix_r", c, Lerp::kWeighsCurrent),
      .decay = w.vector(att + "time_decay", c, w.decay_applied() ? nullptr : +log_decay),
      .bonus = w.vector(att + "time_first", c),
      .receptance = w.matrix(att + "receptance.weight", c, c),
      .key = w.matrix(att + "key.weight", c, c),
      .value = w.matrix(att + "value.weight", c, c),
      .output = w.matrix(att + "output.weight", c, c),
      .shift_state = b.state.offset(att + "x"),
      .wkv_state = b.state.offset(att + "aa"),
  };
}

std::vector<TimeMix> bind_time_mixes(const Building& b) {
  std::vector<TimeMix> layers;
  for (std::size_t i = 0; i < b.config.n_layer; ++i) layers.push_back(bind_time_mix(b, i));
  return layers;
}

StateLayout state_layout(const Config& config) {
  const std::vector<std::size_t> channels = {config.n_embd};
  StateLayout layout;
  for (std::size_t i = 0; i < config.n_layer; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    layout.add({.name = block + ".att.x", .shape = channels});
    layout.add({.name = block + ".att.aa", .shape = channels});
    layout.add({.name = block + ".att.bb", .shape = channels}, /*touching=*/true);
    layout.add({.name = block + ".att.pp", .shape = channels, .initial = kNothingSeen},
               /*touching=*/true);
    layout.add({.name = block + ".ffn.x", .shape = channels});
  }
  return layout;
}

class Rwkv4 final : public Layers {
 public:
  explicit Rwkv4(const Building& b)
      : ops_(b.ops),
        n_embd_(b.config.n_embd),
        att_(bind_time_mixes(b)),
        scratch_(b.scratch),
        ffn_(b, "time_mix_k", "time_mix_r", Lerp::kWeighsCurrent) {}

  void time_mix(std::size_t layer, const Rows& x, Segments segments) override;
  void channel_mix(std::size_t layer, const Rows& x, Segments segments) override {
    ffn_.run(layer, x, segments);
  }
  std::size_t max_group_inputs() const noexcept override {
    return std::max(3 * n_embd_, ffn_.max_group_inputs());
  }

 private:
  Ops& ops_;
  const std::size_t n_embd_;
  const std::vector<TimeMix> att_;

  // [n_tokens, n_embd]
  Scratch& scratch_;
  const Rows& normed_ = scratch_.rows(n_embd_);
  const Rows& r_ = scratch_.rows(n_embd_);
  const Rows& k_ = scratch_.rows(n_embd_);
  const Rows& v_ = scratch_.rows(n_embd_);
  const Rows& y_ = scratch_.rows(n_embd_);

  GatedChannelMix ffn_;
};

void Rwkv4::time_mix(std::size_t layer, const Rows& x, Segments segments) {
  const TimeMix& p = att_[layer];
  ops_.layer_norm(x, p.ln, normed_);
  ops_.token_shift(normed_, segments, p.shift_state);

  const Product projections[] = {
      {&p.receptance, {normed_, p.mix_r}, r_, Epilogue::kSigmoid},
      {&p.key, {normed_, p.mix_k}, k_},
      {&p.value, {normed_, p.mix_v}, v_},
  };
  ops_.matmul(projections);
  ops_.wkv4({.r = r_,
             .k = k_,
             .v = v_,
             .decay = p.decay,
             .bonus = p.bonus,
             .offset = p.wkv_state,
             .out = y_},
            segments);
  ops_.matmul({&p.output, y_, x, Epilogue::kAdd});
}

}  // namespace

constinit const Version kRwkv4 = {
    .name = "4",
    .matches =
        [](const ModelFile& file) {
          return file.find("blocks.0.att.time_decay") != nullptr &&
                 file.find("blocks.0.att.time_first") != nullptr &&
                 file.find("blocks.0.att.ln_x.weight") == nullptr;
        },
    .has_heads = false,
    .head_size = [](const ModelFile&, std::size_t) { return std::size_t{0}; },
    .state_layout = state_layout,
    .build = [](const Building& b) -> std::unique_ptr<Layers> {
      return std::make_unique<Rwkv4>(b);
    },
};

}  // namespace rwkvcpp
