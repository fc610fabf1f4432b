// RWKV-5 "Eagle", versions 5.0, 5.1 and 5.2.
//
// A matrix state per head, decayed by constants. 5.0 has no gate; 5.0 and 5.1
// have one decay and one bonus per head, 5.2 one per channel.
#include <algorithm>
#include <cmath>

#include "model/channel_mix_gated.h"
#include "model/version.h"

namespace rwkvcpp {
namespace {

struct TimeMix {
  Norm ln;
  const float *mix_k, *mix_v, *mix_r, *mix_g;  // token shift; mix_g: null without a gate
  const float *decay, *bonus;
  Matrix receptance, key, value, gate, output;
  Norm ln_x;
  std::size_t shift_state, wkv_state;

  bool has_gate() const noexcept { return mix_g != nullptr; }
};

// In double: every way to these numbers, a converter's too, rounds them once and alike.

/// time_faaaa is the bonus itself, the older time_first its logarithm.
const float* bind_bonus(const Building& b, const std::string& att) {
  WeightBinder& w = b.weights;
  const std::size_t n_head = b.config.n_head();
  const std::size_t n = b.config.head_size;
  if (!w.has(att + "time_first")) return w.per_head(att + "time_faaaa", n_head, n);
  const auto from_log = [](float raw) {
    return static_cast<float>(std::exp(static_cast<double>(raw)));
  };
  return w.per_head(att + "time_first", n_head, n, w.decay_applied() ? nullptr : +from_log);
}

const float* bind_decay(const Building& b, const std::string& att) {
  const auto decay = [](float raw) {
    return static_cast<float>(std::exp(-std::exp(static_cast<double>(raw))));
  };
  return b.weights.per_head(att + "time_decay", b.config.n_head(), b.config.head_size,
                            b.weights.decay_applied() ? nullptr : +decay);
}

TimeMix bind_time_mix(const Building& b, std::size_t layer) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string att = block + ".att.";
  const std::size_t c = b.config.n_embd;
  WeightBinder& w = b.weights;
  const bool has_gate = b.config.version != "5.0";
  const auto shift = [&](const char* name) {
    return w.token_shift(att + name, c, Lerp::kWeighsCurrent);
  };
  return {
      .ln = w.norm(block + ".ln1", c, b.config.layer_norm_eps),
      .mix_k = shift("time_mix_k"),
      .mix_v = shift("time_mix_v"),
      .mix_r = shift("time_mix_r"),
      .mix_g = has_gate ? shift("time_mix_g") : nullptr,
      .decay = bind_decay(b, att),
      .bonus = bind_bonus(b, att),
      .receptance = w.matrix(att + "receptance.weight", c, c),
      .key = w.matrix(att + "key.weight", c, c),
      .value = w.matrix(att + "value.weight", c, c),
      .gate = has_gate ? w.matrix(att + "gate.weight", c, c) : Matrix{},
      .output = w.matrix(att + "output.weight", c, c),
      .ln_x = w.norm(att + "ln_x", c, b.config.group_norm_eps),
      .shift_state = b.state.offset(att + "x"),
      .wkv_state = b.state.offset(att + "wkv"),
  };
}

std::vector<TimeMix> bind_time_mixes(const Building& b) {
  std::vector<TimeMix> layers;
  for (std::size_t i = 0; i < b.config.n_layer; ++i) layers.push_back(bind_time_mix(b, i));
  return layers;
}

class Rwkv5 final : public Layers {
 public:
  explicit Rwkv5(const Building& b)
      : ops_(b.ops),
        config_(b.config),
        att_(bind_time_mixes(b)),
        scratch_(b.scratch),
        ffn_(b, "time_mix_k", "time_mix_r", Lerp::kWeighsCurrent) {}

  void time_mix(std::size_t layer, const Rows& x, Segments segments) override;
  void channel_mix(std::size_t layer, const Rows& x, Segments segments) override {
    ffn_.run(layer, x, segments);
  }
  std::size_t max_group_inputs() const noexcept override {
    return std::max(4 * config_.n_embd, ffn_.max_group_inputs());
  }

 private:
  Ops& ops_;
  const Config config_;
  const std::vector<TimeMix> att_;

  // [n_tokens, n_embd]
  Scratch& scratch_;
  const Rows& normed_ = scratch_.rows(config_.n_embd);
  const Rows& r_ = scratch_.rows(config_.n_embd);
  const Rows& k_ = scratch_.rows(config_.n_embd);
  const Rows& v_ = scratch_.rows(config_.n_embd);
  const Rows& g_ = scratch_.rows(config_.n_embd);
  const Rows& y_ = scratch_.rows(config_.n_embd);

  GatedChannelMix ffn_;
};

void Rwkv5::time_mix(std::size_t layer, const Rows& x, Segments segments) {
  const TimeMix& p = att_[layer];
  const bool gated = p.has_gate();  // the gate comes last

  ops_.layer_norm(x, p.ln, normed_);
  ops_.token_shift(normed_, segments, p.shift_state);

  const Product projections[] = {
      {&p.receptance, {normed_, p.mix_r}, r_},
      {&p.key, {normed_, p.mix_k}, k_},
      {&p.value, {normed_, p.mix_v}, v_},
      {&p.gate, {normed_, p.mix_g}, g_, Epilogue::kSilu},
  };
  ops_.matmul(std::span(projections).first(gated ? 4 : 3));
  ops_.wkv6({.r = r_,
             .k = k_,
             .v = v_,
             .decay = {},
             .decay_constant = p.decay,
             .bonus = p.bonus,
             .gate = gated ? g_ : Rows{},
             .group_norm = p.ln_x,
             .head_size = config_.head_size,
             .offset = p.wkv_state,
             .out = y_},
            segments);
  ops_.matmul({&p.output, y_, x, Epilogue::kAdd});
}

bool has_group_norm(const ModelFile& file) {
  return file.find("blocks.0.att.ln_x.weight") != nullptr &&
         file.find("blocks.0.att.time_mix_k") != nullptr;
}

bool has_gate(const ModelFile& file) { return file.find("blocks.0.att.gate.weight") != nullptr; }

bool decays_per_channel(const ModelFile& file) {
  const TensorInfo* decay = file.find("blocks.0.att.time_decay");
  return decay != nullptr && decay->shape.size() == 2 && decay->shape[1] > 1;
}

std::size_t head_size(const ModelFile& file, std::size_t n_embd) {
  return head_size_of(file, "blocks.0.att.time_decay", n_embd);
}

StateLayout state_layout(const Config& config) {
  return matrix_state_layout(config, /*transposed=*/false);
}

std::unique_ptr<Layers> build(const Building& b) { return std::make_unique<Rwkv5>(b); }

}  // namespace

constinit const Version kRwkv5_0 = {
    .name = "5.0",
    .matches = [](const ModelFile& file) { return has_group_norm(file) && !has_gate(file); },
    .has_heads = true,
    .head_size = head_size,
    .state_layout = state_layout,
    .build = build,
};

constinit const Version kRwkv5_1 = {
    .name = "5.1",
    .matches =
        [](const ModelFile& file) {
          return has_group_norm(file) && has_gate(file) && !decays_per_channel(file);
        },
    .has_heads = true,
    .head_size = head_size,
    .state_layout = state_layout,
    .build = build,
};

constinit const Version kRwkv5_2 = {
    .name = "5.2",
    .matches =
        [](const ModelFile& file) {
          return has_group_norm(file) && has_gate(file) && decays_per_channel(file);
        },
    .has_heads = true,
    .head_size = head_size,
    .state_layout = state_layout,
    .build = build,
};

}  // namespace rwkvcpp
