// The sizes of a model, all read from its file.
#pragma once

#include <cstddef>
#include <string>

namespace rwkvcpp {

struct Config {
  std::string version;  // "4", "5.0", "5.1", "5.2", "6" or "7"
  std::size_t n_vocab = 0;
  std::size_t n_embd = 0;
  std::size_t n_layer = 0;
  std::size_t n_ffn = 0;
  std::size_t head_size = 0;  // 0 for version 4, which has no heads
  float layer_norm_eps = 1e-5F;
  float group_norm_eps = 64e-5F;
  /// The residual is halved after every so many layers; 0: never. Only GGUF
  /// files of version 6 ask for it, and their weights are scaled to match.
  std::size_t rescale_every_n_layers = 0;

  std::size_t n_head() const noexcept { return head_size == 0 ? 0 : n_embd / head_size; }
};

}  // namespace rwkvcpp
