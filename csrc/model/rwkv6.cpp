// RWKV-6 "Finch".
//
// As version 5.2, but the token shift and the decay depend on the token: each
// is a base vector plus a low-rank projection of the input.
#include <algorithm>
#include <array>

#include "model/channel_mix_gated.h"
#include "model/version.h"

namespace rwkvcpp {
namespace {

/// The five mixed inputs, in the order of the file's time_maa_w1 and w2.
enum Mix : std::size_t { kW, kK, kV, kR, kG, kMixes };
constexpr const char* kMixNames[kMixes] = {"w", "k", "v", "r", "g"};

struct TimeMix {
  Norm ln;
  const float* maa_x;                    // token shift of the projection's input
  std::array<const float*, kMixes> maa;  // and of the five mixed inputs
  std::array<Matrix, kMixes> maa_w1;     // [R, C]
  std::array<Matrix, kMixes> maa_w2;     // [C, R]
  const float* decay_base;
  LowRank decay;
  const float* bonus;
  Matrix receptance, key, value, gate, output;
  Norm ln_x;
  std::size_t shift_state, wkv_state;

  std::size_t mix_rank() const noexcept { return maa_w1[0].n_out; }
};

/// The rows of w1 are five projections one under the other.
std::array<Matrix, kMixes> bind_maa_w1(WeightBinder& w, const std::string& name, std::size_t c) {
  return w.stacked<kMixes>(name, w.n_out(name) / kMixes, c);
}

TimeMix bind_time_mix(const Building& b, std::size_t layer) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string att = block + ".att.";
  const std::size_t c = b.config.n_embd;
  WeightBinder& w = b.weights;
  const auto shift = [&](const std::string& name) {
    return w.token_shift(att + name, c, Lerp::kWeighsPrevious);
  };
  TimeMix p = {
      .ln = w.norm(block + ".ln1", c, b.config.layer_norm_eps),
      .maa_x = shift("time_maa_x"),
      .maa = {},
      .maa_w1 = bind_maa_w1(w, att + "time_maa_w1", c),
      .maa_w2 = {},
      .decay_base = w.vector(att + "time_decay", c),
      .decay = w.low_rank(att + "time_decay_w1", att + "time_decay_w2", c, c),
      .bonus = w.vector(att + "time_faaaa", c),
      .receptance = w.matrix(att + "receptance.weight", c, c),
      .key = w.matrix(att + "key.weight", c, c),
      .value = w.matrix(att + "value.weight", c, c),
      .gate = w.matrix(att + "gate.weight", c, c),
      .output = w.matrix(att + "output.weight", c, c),
      .ln_x = w.norm(att + "ln_x", c, b.config.group_norm_eps),
      .shift_state = b.state.offset(att + "x"),
      .wkv_state = b.state.offset(att + "wkv"),
  };
  for (std::size_t i = 0; i < kMixes; ++i) {
    p.maa[i] = shift(std::string("time_maa_") + kMixNames[i]);
    p.maa_w2[i] = w.matrix(att + "time_maa_w2." + kMixNames[i], c, p.mix_rank());
  }
  return p;
}

std::vector<TimeMix> bind_time_mixes(const Building& b) {
  std::vector<TimeMix> layers;
  for (std::size_t i = 0; i < b.config.n_layer; ++i) layers.push_back(bind_time_mix(b, i));
  return layers;
}

class Rwkv6 final : public Layers {
 public:
  explicit Rwkv6(const Building& b)
      : ops_(b.ops),
        config_(b.config),
        att_(bind_time_mixes(b)),
        scratch_(b.scratch),
        ffn_(b, "time_maa_k", "time_maa_r", Lerp::kWeighsPrevious) {
    for (std::size_t i = 0; i < kMixes; ++i) {
      mixed_[i] = &scratch_.rows(config_.n_embd);
      low_mix_[i] = &scratch_.rows(max_mix_rank());
    }
  }

  void time_mix(std::size_t layer, const Rows& x, Segments segments) override;
  void channel_mix(std::size_t layer, const Rows& x, Segments segments) override {
    ffn_.run(layer, x, segments);
  }
  std::size_t max_group_inputs() const noexcept override {
    return std::max(
        {5 * config_.n_embd, 5 * max_mix_rank(), max_decay_rank(), ffn_.max_group_inputs()});
  }

 private:
  void mix_inputs(const TimeMix& p, Segments segments);
  void project(const TimeMix& p);

  std::size_t max_mix_rank() const noexcept {
    return std::ranges::max(att_, {}, &TimeMix::mix_rank).mix_rank();
  }
  std::size_t max_decay_rank() const noexcept {
    const auto rank = [](const TimeMix& p) { return p.decay.rank(); };
    return rank(std::ranges::max(att_, {}, rank));
  }

  Ops& ops_;
  const Config config_;
  const std::vector<TimeMix> att_;

  // [n_tokens, n_embd]
  Scratch& scratch_;
  const Rows& normed_ = scratch_.rows(config_.n_embd);
  const Rows& to_previous_ = scratch_.rows(config_.n_embd);  // p - x
  std::array<const Rows*, kMixes> mixed_;
  const Rows& r_ = scratch_.rows(config_.n_embd);
  const Rows& k_ = scratch_.rows(config_.n_embd);
  const Rows& v_ = scratch_.rows(config_.n_embd);
  const Rows& g_ = scratch_.rows(config_.n_embd);
  const Rows& w_ = scratch_.rows(config_.n_embd);
  const Rows& y_ = scratch_.rows(config_.n_embd);
  // [n_tokens, rank]
  std::array<const Rows*, kMixes> low_mix_;
  const Rows& low_decay_ = scratch_.rows(max_decay_rank());

  GatedChannelMix ffn_;
};

void Rwkv6::time_mix(std::size_t layer, const Rows& x, Segments segments) {
  const TimeMix& p = att_[layer];
  ops_.layer_norm(x, p.ln, normed_);
  mix_inputs(p, segments);
  project(p);
  ops_.wkv6({.r = r_,
             .k = k_,
             .v = v_,
             .decay = w_,
             .decay_constant = nullptr,
             .bonus = p.bonus,
             .gate = g_,
             .group_norm = p.ln_x,
             .head_size = config_.head_size,
             .offset = p.wkv_state,
             .out = y_},
            segments);
  ops_.matmul({&p.output, y_, x, Epilogue::kAdd});
}

/// x_q = x + (p - x) (maa_q + tanh(xx w1_q) w2_q) for q in w, k, v, r, g.
void Rwkv6::mix_inputs(const TimeMix& p, Segments segments) {
  ops_.token_shift(normed_, segments, p.shift_state);
  ops_.to_predecessor(to_previous_);

  Product down[kMixes];
  Product up[kMixes];
  for (std::size_t i = 0; i < kMixes; ++i) {
    const Rows z = low_mix_[i]->columns(0, p.mix_rank());
    down[i] = {&p.maa_w1[i], {normed_, p.maa_x}, z, Epilogue::kTanh};
    up[i] = {&p.maa_w2[i], z, *mixed_[i], Epilogue::kShiftMix, p.maa[i], normed_, to_previous_};
  }
  ops_.matmul(down);
  ops_.matmul(up);
}

void Rwkv6::project(const TimeMix& p) {
  const Rows zw = low_decay_.columns(0, p.decay.rank());
  const Product first[] = {
      {&p.receptance, *mixed_[kR], r_},
      {&p.key, *mixed_[kK], k_},
      {&p.value, *mixed_[kV], v_},
      {&p.gate, *mixed_[kG], g_, Epilogue::kSilu},
      {&p.decay.first, *mixed_[kW], zw, Epilogue::kTanh},
  };
  ops_.matmul(first);
  ops_.matmul({&p.decay.second, zw, w_, Epilogue::kDecay6, p.decay_base});
}

}  // namespace

constinit const Version kRwkv6 = {
    .name = "6",
    .matches =
        [](const ModelFile& file) { return file.find("blocks.0.att.time_maa_x") != nullptr; },
    .has_heads = true,
    .head_size = [](const ModelFile& file,
                    std::size_t c) { return head_size_of(file, "blocks.0.att.time_faaaa", c); },
    .state_layout = [](const Config& config) { return matrix_state_layout(config, false); },
    .build = [](const Building& b) -> std::unique_ptr<Layers> {
      return std::make_unique<Rwkv6>(b);
    },
};

}  // namespace rwkvcpp
