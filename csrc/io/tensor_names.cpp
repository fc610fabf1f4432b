#include "io/tensor_names.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <iterator>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "core/error.h"

namespace rwkvcpp {
namespace {

using Shape = std::vector<std::size_t>;

// ---- names ------------------------------------------------------------------

struct Renaming {
  std::string_view gguf;
  std::string_view checkpoint;
};

constexpr Renaming kOutsideBlocks[] = {
    {"token_embd.weight", "emb.weight"},
    {"token_embd_norm.weight", "blocks.0.ln0.weight"},
    {"token_embd_norm.bias", "blocks.0.ln0.bias"},
    {"output_norm.weight", "ln_out.weight"},
    {"output_norm.bias", "ln_out.bias"},
    {"output.weight", "head.weight"},
};

constexpr Renaming kEveryBlock[] = {
    {"attn_norm.weight", "ln1.weight"},
    {"attn_norm.bias", "ln1.bias"},
    {"attn_norm_2.weight", "ln2.weight"},
    {"attn_norm_2.bias", "ln2.bias"},
    {"time_mix_ln.weight", "att.ln_x.weight"},
    {"time_mix_ln.bias", "att.ln_x.bias"},
    {"time_mix_receptance.weight", "att.receptance.weight"},
    {"time_mix_key.weight", "att.key.weight"},
    {"time_mix_value.weight", "att.value.weight"},
    {"time_mix_output.weight", "att.output.weight"},
    {"channel_mix_key.weight", "ffn.key.weight"},
    {"channel_mix_value.weight", "ffn.value.weight"},
};

// Versions 4 and 5 are names of our own, as llama.cpp would give them: it knows neither.
constexpr Renaming kBlock4[] = {
    {"time_mix_lerp_k.weight", "att.time_mix_k"},
    {"time_mix_lerp_v.weight", "att.time_mix_v"},
    {"time_mix_lerp_r.weight", "att.time_mix_r"},
    {"time_mix_first.weight", "att.time_first"},
    {"time_mix_decay.weight", "att.time_decay"},
    {"channel_mix_lerp_k.weight", "ffn.time_mix_k"},
    {"channel_mix_lerp_r.weight", "ffn.time_mix_r"},
    {"channel_mix_receptance.weight", "ffn.receptance.weight"},
};

// time_first is the logarithm of what time_faaaa is.
constexpr Renaming kBlock5[] = {
    {"time_mix_lerp_k.weight", "att.time_mix_k"},
    {"time_mix_lerp_v.weight", "att.time_mix_v"},
    {"time_mix_lerp_r.weight", "att.time_mix_r"},
    {"time_mix_lerp_g.weight", "att.time_mix_g"},
    {"time_mix_first.weight", "att.time_faaaa"},
    {"time_mix_first_log.weight", "att.time_first"},
    {"time_mix_decay.weight", "att.time_decay"},
    {"time_mix_gate.weight", "att.gate.weight"},
    {"channel_mix_lerp_k.weight", "ffn.time_mix_k"},
    {"channel_mix_lerp_r.weight", "ffn.time_mix_r"},
    {"channel_mix_receptance.weight", "ffn.receptance.weight"},
};

// w1 and w2 are the two halves of the dynamic lerps here, of the decay in rwkv7.
// The lerps are fused in newer files, separate in older ones.
constexpr Renaming kBlock6[] = {
    {"time_mix_lerp_x.weight", "att.time_maa_x"},
    {"time_mix_lerp_fused.weight", "att.time_maa_wkvrg"},
    {"time_mix_lerp_w.weight", "att.time_maa_w"},
    {"time_mix_lerp_k.weight", "att.time_maa_k"},
    {"time_mix_lerp_v.weight", "att.time_maa_v"},
    {"time_mix_lerp_r.weight", "att.time_maa_r"},
    {"time_mix_lerp_g.weight", "att.time_maa_g"},
    {"time_mix_w1.weight", "att.time_maa_w1"},
    {"time_mix_w2.weight", "att.time_maa_w2"},
    {"time_mix_first.weight", "att.time_faaaa"},
    {"time_mix_decay.weight", "att.time_decay"},
    {"time_mix_decay_w1.weight", "att.time_decay_w1"},
    {"time_mix_decay_w2.weight", "att.time_decay_w2"},
    {"time_mix_gate.weight", "att.gate.weight"},
    {"channel_mix_lerp_k.weight", "ffn.time_maa_k"},
    {"channel_mix_lerp_r.weight", "ffn.time_maa_r"},
    {"channel_mix_receptance.weight", "ffn.receptance.weight"},
};

constexpr Renaming kBlock7[] = {
    {"time_mix_lerp_fused.weight", "att.x_rwkvag"},
    {"time_mix_w0.weight", "att.w0"},
    {"time_mix_w1.weight", "att.w1"},
    {"time_mix_w2.weight", "att.w2"},
    {"time_mix_a0.weight", "att.a0"},
    {"time_mix_a1.weight", "att.a1"},
    {"time_mix_a2.weight", "att.a2"},
    {"time_mix_v0.weight", "att.v0"},
    {"time_mix_v1.weight", "att.v1"},
    {"time_mix_v2.weight", "att.v2"},
    {"time_mix_g1.weight", "att.g1"},
    {"time_mix_g2.weight", "att.g2"},
    {"time_mix_k_k.weight", "att.k_k"},
    {"time_mix_k_a.weight", "att.k_a"},
    {"time_mix_r_k.weight", "att.r_k"},
    {"channel_mix_lerp_k.weight", "ffn.x_k"},
};

struct Architecture {
  std::string_view name;
  std::span<const Renaming> block;
};

constexpr Architecture kArchitectures[] = {
    {"rwkv4", kBlock4}, {"rwkv5", kBlock5}, {"rwkv6", kBlock6}, {"rwkv7", kBlock7}};

const Architecture* find_architecture(std::string_view name) noexcept {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

std::optional<std::string_view> renamed(std::span<const Renaming> table, std::string_view name) {
  for (const Renaming& row : table) {
    if (row.gguf == name) return row.checkpoint;
  }
  return std::nullopt;
}

std::optional<std::string_view> original(std::span<const Renaming> table, std::string_view name) {
  for (const Renaming& row : table) {
    if (row.checkpoint == name) return row.gguf;
  }
  return std::nullopt;
}

// "blk.12.time_mix_key.weight" is block 12 and leaf "time_mix_key.weight".
struct BlockName {
  std::size_t block;
  std::string_view leaf;
};

constexpr std::size_t kMaxBlocks = 100'000;

// Nothing for names outside blocks, and for "blk.012": one tensor, one spelling.
std::optional<BlockName> split_block_name(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const char* end = name.data() + name.size();
  std::size_t block = 0;
  const auto [dot, error] = std::from_chars(name.data(), end, block);
  const auto n_digits = static_cast<std::size_t>(dot - name.data());
  const bool padded = n_digits > 1 && name.front() == '0';
  if (error != std::errc() || padded || block >= kMaxBlocks) return std::nullopt;
  if (dot == end || *dot != '.') return std::nullopt;
  return BlockName{block, name.substr(n_digits + 1)};
}

// ---- shapes -----------------------------------------------------------------

Shape without_ones(const Shape& shape) {
  Shape kept;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(kept),
               [](std::size_t n) { return n != 1; });
  return kept.empty() ? Shape{1} : kept;
}

Shape flattened(const Shape& shape) {
  return {std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>())};
}

// GGUF may pad with outer ones: [1, 1, F, C] -> [F, C].
Shape without_outer_ones(const Shape& shape, std::size_t rank) {
  const auto is_kept = [](std::size_t n) { return n != 1; };
  const auto spare = static_cast<std::ptrdiff_t>(shape.size() > rank ? shape.size() - rank : 0);
  return {std::find_if(shape.begin(), shape.begin() + spare, is_kept), shape.end()};
}

Shape as_matrix(const Shape& shape) { return without_outer_ones(shape, 2); }

// [H, 1, 1] -> [H], [H, N, 1] -> [H, N]: the head count stays, even when it is 1.
Shape per_head(const Shape& shape) {
  Shape kept = shape;
  while (kept.size() > 1 && kept.back() == 1) kept.pop_back();
  return kept;
}

// ggml drops outer dimensions of 1 when it rewrites a file: [N] was [1, N].
Shape per_head_and_channel(const Shape& shape) {
  const Shape kept = per_head(shape);
  return kept.size() == 1 ? Shape{1, kept[0]} : kept;
}

struct ShapeRule {
  std::string_view leaf;
  Shape (*normalise)(const Shape&);
};

constexpr ShapeRule kShapeRules[] = {
    {"ln_out.weight", without_ones},
    {"ln_out.bias", without_ones},
    {"ln0.weight", without_ones},
    {"ln0.bias", without_ones},
    {"ln1.weight", without_ones},
    {"ln1.bias", without_ones},
    {"ln2.weight", without_ones},
    {"ln2.bias", without_ones},
    {"att.ln_x.weight", without_ones},
    {"att.ln_x.bias", without_ones},
    {"att.time_mix_k", without_ones},
    {"att.time_mix_v", without_ones},
    {"att.time_mix_r", without_ones},
    {"att.time_mix_g", without_ones},
    {"ffn.time_mix_k", without_ones},
    {"ffn.time_mix_r", without_ones},
    {"att.time_maa_x", without_ones},
    {"att.time_maa_w", without_ones},
    {"att.time_maa_k", without_ones},
    {"att.time_maa_v", without_ones},
    {"att.time_maa_r", without_ones},
    {"att.time_maa_g", without_ones},
    {"ffn.time_maa_k", without_ones},
    {"ffn.time_maa_r", without_ones},
    {"att.x_r", without_ones},
    {"att.x_w", without_ones},
    {"att.x_k", without_ones},
    {"att.x_v", without_ones},
    {"att.x_a", without_ones},
    {"att.x_g", without_ones},
    {"att.w0", without_ones},
    {"att.a0", without_ones},
    {"att.v0", without_ones},
    {"att.k_k", without_ones},
    {"att.k_a", without_ones},
    {"ffn.x_k", without_ones},
    {"att.r_k", flattened},
    {"att.time_decay", per_head},
    {"att.time_first", per_head},
    {"att.time_faaaa", per_head},
};

// Version 6 has a decay per channel, which rwkv.cpp stores as [H, N, 1].
constexpr ShapeRule kShapeRules6[] = {
    {"att.time_decay", flattened},
    {"att.time_faaaa", per_head_and_channel},
};

const ShapeRule* find_rule(std::span<const ShapeRule> rules, std::string_view leaf) {
  const auto rule =
      std::find_if(rules.begin(), rules.end(), [&](const ShapeRule& r) { return r.leaf == leaf; });
  return rule != rules.end() ? &*rule : nullptr;
}

Shape normalised(const TensorInfo& tensor, bool is_version_6) {
  const auto name = split_block_name("blocks.", tensor.name);
  const std::string_view leaf = name ? name->leaf : std::string_view(tensor.name);
  const ShapeRule* rule = is_version_6 ? find_rule(kShapeRules6, leaf) : nullptr;
  if (rule == nullptr) rule = find_rule(kShapeRules, leaf);
  return rule != nullptr ? rule->normalise(tensor.shape) : as_matrix(tensor.shape);
}

// ---- slices -----------------------------------------------------------------

struct SliceRule {
  std::string_view leaf;
  std::string_view slices;  // a letter each, in the tensor's outermost dimension
  std::string_view stem;    // of the slices' names
};

constexpr SliceRule kSliceRules[] = {
    {"att.x_rwkvag", "rwkvag", "att.x_"},
    {"att.time_maa_wkvrg", "wkvrg", "att.time_maa_"},
    {"att.time_maa_w2", "wkvrg", "att.time_maa_w2."},
};

const SliceRule* find_slices(const TensorInfo& tensor) {
  const auto name = split_block_name("blocks.", tensor.name);
  for (const SliceRule& rule : kSliceRules) {
    if (name && name->leaf == rule.leaf) return &rule;
  }
  return nullptr;
}

void check_sliceable(const ModelFile& file, const TensorInfo& tensor, const SliceRule& rule) {
  const std::size_t n = tensor.shape.size() > 1 ? tensor.shape[0] : 1;
  if (tensor.make) {
    throw UnsupportedError(file.path + ": tensor " + tensor.file_name +
                           " is fused, expected its slices one by one");
  }
  if (n == rule.slices.size()) return;
  throw ModelFormatError(file.path + ": tensor " + tensor.file_name + " holds " +
                         std::to_string(n) + " slices, expected " +
                         std::to_string(rule.slices.size()) + " (" + std::string(rule.slices) +
                         ")");
}

std::vector<TensorInfo> slices_of(const TensorInfo& fused, const SliceRule& rule) {
  const std::string block = fused.name.substr(0, fused.name.size() - rule.leaf.size());
  const std::uint64_t n_bytes = fused.n_bytes / rule.slices.size();
  std::vector<TensorInfo> slices;
  for (std::size_t i = 0; i < rule.slices.size(); ++i) {
    slices.push_back({.name = block + std::string(rule.stem) + rule.slices[i],
                      .file_name = fused.file_name + "[" + std::to_string(i) + "]",
                      .type = fused.type,
                      .shape = Shape(fused.shape.begin() + 1, fused.shape.end()),
                      .offset = fused.offset + i * n_bytes,
                      .n_bytes = n_bytes,
                      .file = fused.file});
  }
  return slices;
}

std::vector<TensorInfo> cut_into_slices(const ModelFile& file, std::vector<TensorInfo> tensors) {
  std::vector<TensorInfo> cut;
  cut.reserve(tensors.size());
  for (TensorInfo& tensor : tensors) {
    const SliceRule* rule = find_slices(tensor);
    if (rule == nullptr) {
      cut.push_back(std::move(tensor));
      continue;
    }
    tensor.shape = without_outer_ones(tensor.shape, 2);
    check_sliceable(file, tensor, *rule);
    for (TensorInfo& slice : slices_of(tensor, *rule)) cut.push_back(std::move(slice));
  }
  return cut;
}

// ---- head size --------------------------------------------------------------

const TensorInfo* find(const std::vector<TensorInfo>& tensors, std::string_view name) {
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// From a tensor [H, N]; or from one [H] and the channels that the heads share.
std::optional<std::size_t> head_size_of(const ModelFile& file, const TensorInfo& tensor,
                                        std::size_t n_channels) {
  const Shape shape = per_head(tensor.shape);
  if (shape.size() == 2) return shape[1];
  if (n_channels % shape[0] == 0) return n_channels / shape[0];
  throw ModelFormatError(file.path + ": tensor " + tensor.file_name + " has " +
                         std::to_string(shape[0]) + " heads, expected a divisor of the " +
                         std::to_string(n_channels) + " channels");
}

// Every version with heads has ln_x. GGUF flattens r_k: its metadata tells instead.
std::optional<std::size_t> find_head_size(const ModelFile& file,
                                          const std::vector<TensorInfo>& tensors) {
  const TensorInfo* ln_x = find(tensors, "blocks.0.att.ln_x.weight");
  if (ln_x == nullptr) return std::nullopt;
  if (const TensorInfo* r_k = find(tensors, "blocks.0.att.r_k")) {
    return r_k->shape.size() == 2 ? std::optional(r_k->shape[1]) : std::nullopt;
  }
  for (const char* name : {"blocks.0.att.time_faaaa", "blocks.0.att.time_decay"}) {
    const TensorInfo* tensor = find(tensors, name);
    if (tensor != nullptr) return head_size_of(file, *tensor, ln_x->n_elements());
  }
  return std::nullopt;
}

}  // namespace

bool is_known_architecture(std::string_view architecture) noexcept {
  return find_architecture(architecture) != nullptr;
}

std::string known_architectures() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return names;
}

std::string checkpoint_name(std::string_view architecture, const std::string& gguf_name) {
  if (const auto name = renamed(kOutsideBlocks, gguf_name)) return std::string(*name);
  const Architecture* found = find_architecture(architecture);
  const auto name = split_block_name("blk.", gguf_name);
  if (found == nullptr || !name) return gguf_name;
  auto leaf = renamed(kEveryBlock, name->leaf);
  if (!leaf) leaf = renamed(found->block, name->leaf);
  if (!leaf) return gguf_name;
  return "blocks." + std::to_string(name->block) + "." + std::string(*leaf);
}

std::optional<std::string> gguf_name(std::string_view architecture,
                                     std::string_view checkpoint_name) {
  if (const auto name = original(kOutsideBlocks, checkpoint_name)) return std::string(*name);
  const Architecture* found = find_architecture(architecture);
  const auto name = split_block_name("blocks.", checkpoint_name);
  if (found == nullptr || !name) return std::nullopt;
  auto leaf = original(kEveryBlock, name->leaf);
  if (!leaf) leaf = original(found->block, name->leaf);
  if (!leaf) return std::nullopt;
  return "blk." + std::to_string(name->block) + "." + std::string(*leaf);
}

void add_in_checkpoint_form(ModelFile& file, std::vector<TensorInfo> tensors) {
  if (!file.head_size) file.head_size = find_head_size(file, tensors);
  const bool is_version_6 = find(tensors, "blocks.0.att.time_maa_x") != nullptr;
  for (TensorInfo& tensor : cut_into_slices(file, std::move(tensors))) {
    tensor.shape = normalised(tensor, is_version_6);
    file.add(std::move(tensor));
  }
}

std::size_t count_blocks(const std::vector<TensorInfo>& tensors) {
  std::size_t n_blocks = 0;
  for (const TensorInfo& tensor : tensors) {
    if (const auto name = split_block_name("blocks.", tensor.name)) {
      n_blocks = std::max(n_blocks, name->block + 1);
    }
  }
  return n_blocks;
}

}  // namespace rwkvcpp
