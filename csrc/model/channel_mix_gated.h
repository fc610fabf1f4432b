// The channel mixing of versions 4, 5 and 6:
//   out = sigmoid(R x_r) * V relu(K x_k)^2
// They differ in the names of the token-shift vectors, and in their meaning.
#pragma once

#include "model/version.h"

namespace rwkvcpp {

class GatedChannelMix {
 public:
  GatedChannelMix(const Building& building, const char* mix_k, const char* mix_r, Lerp lerp);

  void run(std::size_t layer, const Rows& x, Segments segments);
  std::size_t max_group_inputs() const noexcept;

 private:
  struct Layer {
    Norm ln;
    const float *mix_k, *mix_r;  // token shift
    Matrix key, receptance, value;
    std::size_t shift_state;
  };

  static Layer bind(const Building& building, std::size_t layer, const char* mix_k,
                    const char* mix_r, Lerp lerp);
  static std::vector<Layer> bind_layers(const Building& building, const char* mix_k,
                                        const char* mix_r, Lerp lerp);

  Ops& ops_;
  const std::size_t n_embd_;
  const std::size_t n_ffn_;
  const std::vector<Layer> layers_;

  // [n_tokens, n_embd]
  Scratch& scratch_;
  const Rows& normed_ = scratch_.rows(n_embd_);
  const Rows& r_ = scratch_.rows(n_embd_);
  // [n_tokens, n_ffn]
  const Rows& hidden_ = scratch_.rows(n_ffn_);
};

}  // namespace rwkvcpp
