// RWKV-7 "Goose".
//
// A matrix state per head that is not only decayed but corrected: what it holds
// for the current key is taken out at an in-context rate a before the new value
// goes in. Layers after the first mix their values with the first layer's.
#include <algorithm>

#include "model/version.h"

namespace rwkvcpp {
namespace {

struct TimeMix {
  Norm ln;
  const float *x_r, *x_w, *x_k, *x_v, *x_a, *x_g;  // token shift
  Matrix receptance, key, value, output;
  LowRank w, a, v, g;         // v: layers after the first only
  const float *w0, *a0, *v0;  // biases of w, a, v
  const float *k_k, *k_a, *r_k;
  Norm ln_x;
  std::size_t shift_state, wkv_state;
};

struct ChannelMix {
  Norm ln;
  const float* x_k;
  Matrix key, value;
  std::size_t shift_state;
};

struct Layer {
  TimeMix att;
  ChannelMix ffn;
};

TimeMix bind_time_mix(const Building& b, std::size_t layer) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string att = block + ".att.";
  const std::size_t c = b.config.n_embd;
  const bool first = layer == 0;
  WeightBinder& w = b.weights;

  const auto shift = [&](const char* name) {
    return w.token_shift(att + name, c, Lerp::kWeighsPrevious);
  };
  const auto low_rank = [&](const std::string& name) {
    return w.low_rank(att + name + "1", att + name + "2", c, c);
  };
  return {
      .ln = w.norm(block + ".ln1", c, b.config.layer_norm_eps),
      .x_r = shift("x_r"),
      .x_w = shift("x_w"),
      .x_k = shift("x_k"),
      .x_v = shift("x_v"),
      .x_a = shift("x_a"),
      .x_g = shift("x_g"),
      .receptance = w.matrix(att + "receptance.weight", c, c),
      .key = w.matrix(att + "key.weight", c, c),
      .value = w.matrix(att + "value.weight", c, c),
      .output = w.matrix(att + "output.weight", c, c),
      .w = low_rank("w"),
      .a = low_rank("a"),
      .v = first ? LowRank{} : low_rank("v"),
      .g = low_rank("g"),
      .w0 = w.vector(att + "w0", c),
      .a0 = w.vector(att + "a0", c),
      .v0 = first ? nullptr : w.vector(att + "v0", c),
      .k_k = w.vector(att + "k_k", c),
      .k_a = w.vector(att + "k_a", c),
      .r_k = w.vector(att + "r_k", c),
      .ln_x = w.norm(att + "ln_x", c, b.config.group_norm_eps),
      .shift_state = b.state.offset(att + "x"),
      .wkv_state = b.state.offset(att + "wkv"),
  };
}

ChannelMix bind_channel_mix(const Building& b, std::size_t layer) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string ffn = block + ".ffn.";
  const std::size_t c = b.config.n_embd;
  WeightBinder& w = b.weights;
  return {
      .ln = w.norm(block + ".ln2", c, b.config.layer_norm_eps),
      .x_k = w.token_shift(ffn + "x_k", c, Lerp::kWeighsPrevious),
      .key = w.matrix(ffn + "key.weight", b.config.n_ffn, c),
      .value = w.behind_relu(ffn + "value.weight", c, b.config.n_ffn),
      .shift_state = b.state.offset(ffn + "x"),
  };
}

std::vector<Layer> bind_layers(const Building& b) {
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < b.config.n_layer; ++i) {
    layers.push_back({bind_time_mix(b, i), bind_channel_mix(b, i)});
  }
  return layers;
}

std::size_t max_rank(const std::vector<Layer>& layers) {
  std::size_t rank = 0;
  for (const Layer& layer : layers) {
    const TimeMix& p = layer.att;
    rank = std::max({rank, p.w.rank(), p.a.rank(), p.v.rank(), p.g.rank()});
  }
  return rank;
}

class Rwkv7 final : public Layers {
 public:
  explicit Rwkv7(const Building& b)
      : ops_(b.ops),
        config_(b.config),
        layers_(bind_layers(b)),
        max_rank_(rwkvcpp::max_rank(layers_)),
        scratch_(b.scratch) {}

  void time_mix(std::size_t layer, const Rows& x, Segments segments) override;
  void channel_mix(std::size_t layer, const Rows& x, Segments segments) override;
  std::size_t max_group_inputs() const noexcept override {
    return std::max({6 * config_.n_embd, config_.n_ffn, 4 * max_rank_});
  }

 private:
  void project(const TimeMix& p, const Rows& v, bool mix_values);

  Ops& ops_;
  const Config config_;
  const std::vector<Layer> layers_;
  const std::size_t max_rank_;

  // [n_tokens, n_embd]
  Scratch& scratch_;
  const Rows& normed_ = scratch_.rows(config_.n_embd);
  const Rows& r_ = scratch_.rows(config_.n_embd);
  const Rows& w_ = scratch_.rows(config_.n_embd);
  const Rows& k_ = scratch_.rows(config_.n_embd);
  const Rows& v_ = scratch_.rows(config_.n_embd);
  const Rows& v_first_ = scratch_.rows(config_.n_embd);
  const Rows& a_ = scratch_.rows(config_.n_embd);
  const Rows& g_ = scratch_.rows(config_.n_embd);
  const Rows& y_ = scratch_.rows(config_.n_embd);
  // [n_tokens, rank]: between the two halves of w, a, v, g
  const Rows& low_w_ = scratch_.rows(max_rank_);
  const Rows& low_a_ = scratch_.rows(max_rank_);
  const Rows& low_v_ = scratch_.rows(max_rank_);
  const Rows& low_g_ = scratch_.rows(max_rank_);
  // [n_tokens, n_ffn]
  const Rows& hidden_ = scratch_.rows(config_.n_ffn);
};

void Rwkv7::time_mix(std::size_t layer, const Rows& x, Segments segments) {
  const TimeMix& p = layers_[layer].att;
  const bool first = layer == 0;
  const Rows& v = first ? v_first_ : v_;  // the first layer's values stay for the others

  ops_.layer_norm(x, p.ln, normed_);
  ops_.token_shift(normed_, segments, p.shift_state);
  project(p, v, !first);
  ops_.wkv7({.r = r_,
             .decay = w_,
             .k = k_,
             .v = v,
             .a = a_,
             .gate = g_,
             .k_k = p.k_k,
             .k_a = p.k_a,
             .r_k = p.r_k,
             .group_norm = p.ln_x,
             .head_size = config_.head_size,
             .offset = p.wkv_state,
             .out = y_},
            segments);
  ops_.matmul({&p.output, y_, x, Epilogue::kAdd});
}

/// r, k, v and the low-rank w, a, v, g in two groups: all that reads the mixed
/// inputs, then the second halves. The value residual comes last in both, to be
/// left out in the first layer.
void Rwkv7::project(const TimeMix& p, const Rows& v, bool mix_values) {
  const Rows zw = low_w_.columns(0, p.w.rank());
  const Rows za = low_a_.columns(0, p.a.rank());
  const Rows zg = low_g_.columns(0, p.g.rank());
  const Rows zv = low_v_.columns(0, p.v.rank());

  const Product first[] = {
      {&p.receptance, {normed_, p.x_r}, r_}, {&p.key, {normed_, p.x_k}, k_},
      {&p.value, {normed_, p.x_v}, v},       {&p.w.first, {normed_, p.x_w}, zw, Epilogue::kTanh},
      {&p.a.first, {normed_, p.x_a}, za},    {&p.g.first, {normed_, p.x_g}, zg, Epilogue::kSigmoid},
      {&p.v.first, {normed_, p.x_v}, zv},
  };
  const Product second[] = {
      {&p.w.second, zw, w_, Epilogue::kDecay7, p.w0},
      {&p.a.second, za, a_, Epilogue::kSigmoidBias, p.a0},
      {&p.g.second, zg, g_},
      {&p.v.second, zv, v, Epilogue::kValueResidual, p.v0, v_first_},
  };
  ops_.matmul(std::span(first).first(mix_values ? 7 : 6));
  ops_.matmul(std::span(second).first(mix_values ? 4 : 3));
}

void Rwkv7::channel_mix(std::size_t layer, const Rows& x, Segments segments) {
  const ChannelMix& p = layers_[layer].ffn;
  ops_.layer_norm(x, p.ln, normed_);
  ops_.token_shift(normed_, segments, p.shift_state);
  ops_.matmul({&p.key, {normed_, p.x_k}, hidden_, Epilogue::kReluSquared});
  ops_.matmul({&p.value, hidden_, x, Epilogue::kAdd});
}

/// The first layer has no value residual; converters store what they please.
constexpr std::string_view kUnused[] = {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"};

}  // namespace

constinit const Version kRwkv7 = {
    .name = "7",
    .matches = [](const ModelFile& file) { return file.find("blocks.0.att.r_k") != nullptr; },
    .has_heads = true,
    .head_size = [](const ModelFile& file,
                    std::size_t c) { return head_size_of(file, "blocks.0.att.r_k", c); },
    .state_layout = [](const Config& config) { return matrix_state_layout(config, true); },
    .build = [](const Building& b) -> std::unique_ptr<Layers> {
      return std::make_unique<Rwkv7>(b);
    },
    .unused = kUnused,
};

}  // namespace rwkvcpp
