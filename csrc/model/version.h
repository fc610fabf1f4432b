// What a version of RWKV has to say about itself. rwkv<N>.cpp defines one of
// these per version; registry.cpp lists them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/scratch.h"
#include "model/state.h"
#include "model/weight_binder.h"

namespace rwkvcpp {

/// The layers of a model: its weights and scratch, and the equations between.
/// x are the rows of the residual; each call adds to them.
class Layers {
 public:
  virtual ~Layers() = default;
  virtual void time_mix(std::size_t layer, const Rows& x, Segments segments) = 0;
  virtual void channel_mix(std::size_t layer, const Rows& x, Segments segments) = 0;
  /// For Ops::reserve: widths of the inputs of the widest group of products.
  virtual std::size_t max_group_inputs() const noexcept = 0;
};

/// Where layers are built from.
struct Building {
  const Config& config;
  const StateLayout& state;
  WeightBinder& weights;
  Ops& ops;
  Scratch& scratch;
};

struct Version {
  std::string_view name;
  bool (*matches)(const ModelFile& file);
  bool has_heads;
  std::size_t (*head_size)(const ModelFile& file, std::size_t n_embd);
  StateLayout (*state_layout)(const Config& config);
  std::unique_ptr<Layers> (*build)(const Building& building);
  /// Tensors that files may hold and the version does not use.
  std::span<const std::string_view> unused = {};
};

/// The head size that the file names, or that a tensor [H] or [H, N] implies.
std::size_t head_size_of(const ModelFile& file, const std::string& per_head, std::size_t n_embd);

extern const Version kRwkv4;
extern const Version kRwkv5_0;
extern const Version kRwkv5_1;
extern const Version kRwkv5_2;
extern const Version kRwkv6;
extern const Version kRwkv7;

}  // namespace rwkvcpp
