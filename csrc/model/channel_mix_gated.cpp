#include "model/channel_mix_gated.h"

#include <algorithm>

namespace rwkvcpp {

GatedChannelMix::GatedChannelMix(const Building& b, const char* mix_k, const char* mix_r, Lerp lerp)
    : ops_(b.ops),
      n_embd_(b.config.n_embd),
      n_ffn_(b.config.n_ffn),
      layers_(bind_layers(b, mix_k, mix_r, lerp)),
      scratch_(b.scratch) {}

std::vector<GatedChannelMix::Layer> GatedChannelMix::bind_layers(const Building& b,
                                                                 const char* mix_k,
                                                                 const char* mix_r, Lerp lerp) {
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < b.config.n_layer; ++i) {
    layers.push_back(bind(b, i, mix_k, mix_r, lerp));
  }
  return layers;
}

GatedChannelMix::Layer GatedChannelMix::bind(const Building& b, std::size_t layer,
                                             const char* mix_k, const char* mix_r, Lerp lerp) {
  const std::string block = "blocks." + std::to_string(layer);
  const std::string ffn = block + ".ffn.";
  const std::size_t c = b.config.n_embd;
  WeightBinder& w = b.weights;
  return {
      .ln = w.norm(block + ".ln2", c, b.config.layer_norm_eps),
      .mix_k = w.token_shift(ffn + mix_k, c, lerp),
      .mix_r = w.token_shift(ffn + mix_r, c, lerp),
      .key = w.matrix(ffn + "key.weight", b.config.n_ffn, c),
      .receptance = w.matrix(ffn + "receptance.weight", c, c),
      .value = w.behind_relu(ffn + "value.weight", c, b.config.n_ffn),
      .shift_state = b.state.offset(ffn + "x"),
  };
}

std::size_t GatedChannelMix::max_group_inputs() const noexcept {
  return std::max(2 * n_embd_, n_ffn_);
}

void GatedChannelMix::run(std::size_t layer, const Rows& x, Segments segments) {
  const Layer& p = layers_[layer];
  ops_.layer_norm(x, p.ln, normed_);
  ops_.token_shift(normed_, segments, p.shift_state);

  const Product products[] = {
      {&p.key, {normed_, p.mix_k}, hidden_, Epilogue::kReluSquared},
      {&p.receptance, {normed_, p.mix_r}, r_, Epilogue::kSigmoid},
  };
  ops_.matmul(products);
  ops_.matmul({.weight = &p.value, .x = hidden_, .y = x, .epilogue = Epilogue::kGatedAdd, .a = r_});
}

}  // namespace rwkvcpp
