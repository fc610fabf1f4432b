// Version detection: by the names of tensors, never by the name of the file.
#include "model/registry.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "model/spelling.h"

namespace rwkvcpp {
namespace {

constexpr const Version* kVersions[] = {&kRwkv7, &kRwkv6, &kRwkv5_2, &kRwkv5_1, &kRwkv5_0, &kRwkv4};

constexpr const char* kVersionNames = "RWKV 4, 5.0, 5.1, 5.2, 6 and 7";

/// Kernels keep one head's vectors on the stack.
constexpr std::size_t kMaxHeadSize = 256;

/// Research variants that look like a version above and are not.
struct Variant {
  std::string_view mark;  // part of a tensor's name
  std::string_view name;
};

constexpr Variant kOtherVariants[] = {
    {".qkv.qq.weight", "RWKV-7b (DeepEmbed with attention)"},
    {".ffn.s_emb.weight", "RWKV-7a (DeepEmbed)"},
    {".ffn.enn.weight", "RWKV-8 (experimental)"},
    {".att.time_maa_rkvw_w1", "an RWKV-6 experiment (x060b)"},
    {".att.qq.", "RWKV-4a (with attention)"},
    {".tiny_", "RWKV-4 with tiny attention"},
    {".ffnPre.", "RWKV with a channel mixing in place of the first time mixing"},
    {".ffn.aa.", "RWKV with a MishGLU channel mixing"},
    {"pos_emb_", "RWKV with position embeddings"},
    {"head_q.", "RWKV with a copying head"},
};

std::vector<std::string> names_with(const ModelFile& file, std::string_view mark) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file.tensors) {
    if (tensor.name.find(mark) != std::string::npos) names.push_back(tensor.file_name);
  }
  return names;
}

void refuse_other_variants(const ModelFile& file) {
  for (const Variant& variant : kOtherVariants) {
    const std::vector<std::string> marks = names_with(file, variant.mark);
    if (marks.empty()) continue;
    throw UnsupportedError(file.path + ": is " + std::string(variant.name) + ", this build runs " +
                           kVersionNames + "; unexpected tensors: " + list_text(marks));
  }
}

const TensorInfo& two_dimensional(const ModelFile& file, const std::string& name) {
  const TensorInfo* tensor = file.find(name);
  if (tensor == nullptr) throw ModelFormatError(file.path + ": tensor " + name + " is missing");
  if (tensor->shape.size() == 2) return *tensor;
  throw ModelFormatError(file.path + ": tensor " + name + " is " + shape_text(tensor->shape) +
                         ", expected two dimensions");
}

/// One more than the highest index in "blocks.<i>."; 0 without blocks.
std::size_t count_layers(const ModelFile& file) {
  constexpr std::string_view kPrefix = "blocks.";
  std::size_t n_layer = 0;
  for (const TensorInfo& tensor : file.tensors) {
    if (!tensor.name.starts_with(kPrefix)) continue;
    std::size_t index = 0;
    const char* end = tensor.name.data() + tensor.name.size();
    const auto parsed = std::from_chars(tensor.name.data() + kPrefix.size(), end, index);
    // Each layer has tensors, so an index beyond their number is not one.
    if (parsed.ec != std::errc() || index >= file.tensors.size()) {
      throw ModelFormatError(file.path + ": tensor " + tensor.name +
                             " names a layer that cannot be, in a file of " +
                             std::to_string(file.tensors.size()) + " tensors");
    }
    n_layer = std::max(n_layer, index + 1);
  }
  return n_layer;
}

float layer_norm_eps(const ModelFile& file) {
  const std::string key = file.architecture + ".attention.layer_norm_epsilon";
  const double eps = metadata_number(file, key).value_or(file.layer_norm_eps.value_or(1e-5));
  if (eps >= 0 && eps < 1) return static_cast<float>(eps);
  throw ModelFormatError(file.path + ": " + key + " is " + std::to_string(eps) +
                         ", expected a number from 0 to 1");
}

std::size_t rescale_every_n_layers(const ModelFile& file) {
  const std::string key = file.architecture + ".rescale_every_n_layers";
  const double n = metadata_number(file, key).value_or(0);
  if (n >= 0 && n < std::numeric_limits<std::uint32_t>::max()) return static_cast<std::size_t>(n);
  throw ModelFormatError(file.path + ": " + key + " is " + std::to_string(n) +
                         ", expected a number of layers");
}

void check_head_size(const ModelFile& file, const Config& config) {
  const std::size_t n = config.head_size;
  if (n > 0 && n <= kMaxHeadSize && config.n_embd % n == 0) return;
  throw ModelFormatError(file.path + ": the head size is " + std::to_string(n) +
                         ", expected a divisor of n_embd = " + std::to_string(config.n_embd) +
                         " and at most " + std::to_string(kMaxHeadSize));
}

}  // namespace

const Version& detect_version(const ModelFile& file) {
  refuse_other_variants(file);
  for (const Version* version : kVersions) {
    if (version->matches(file)) return *version;
  }
  throw UnsupportedError(file.path + ": is no version of RWKV known here (" + kVersionNames +
                         "); unexpected tensors: " + list_text(names_with(file, "")));
}

Config read_config(const ModelFile& file, const Version& version) {
  const TensorInfo& embedding = two_dimensional(file, "emb.weight");
  Config config;
  config.version = version.name;
  config.n_vocab = embedding.shape[0];
  config.n_embd = embedding.shape[1];
  config.n_layer = count_layers(file);
  config.n_ffn = two_dimensional(file, "blocks.0.ffn.key.weight").shape[0];
  config.head_size = version.head_size(file, config.n_embd);
  if (version.has_heads) check_head_size(file, config);
  config.layer_norm_eps = layer_norm_eps(file);
  config.rescale_every_n_layers = rescale_every_n_layers(file);
  if (config.n_vocab > static_cast<std::size_t>(std::numeric_limits<TokenId>::max())) {
    throw ModelFormatError(file.path + ": tensor emb.weight is " + shape_text(embedding.shape) +
                           ", expected fewer rows than 2^31");
  }
  return config;
}

std::size_t head_size_of(const ModelFile& file, const std::string& per_head, std::size_t n_embd) {
  if (file.head_size) return *file.head_size;
  const TensorInfo* tensor = file.find(per_head);
  if (tensor == nullptr) throw ModelFormatError(file.path + ": tensor " + per_head + " is missing");
  const std::size_t n_head = tensor->shape[0];
  const bool flattened = tensor->shape.size() == 1 && n_head == n_embd;
  if (!flattened && n_head > 0 && n_embd % n_head == 0) return n_embd / n_head;
  throw ModelFormatError(file.path + ": tensor " + per_head + " is " + shape_text(tensor->shape) +
                         ", which gives no head size for n_embd = " + std::to_string(n_embd));
}

std::optional<double> metadata_number(const ModelFile& file, const std::string& key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) return std::nullopt;
  if (const auto* n = std::get_if<std::uint64_t>(&found->second)) return static_cast<double>(*n);
  if (const auto* n = std::get_if<std::int64_t>(&found->second)) return static_cast<double>(*n);
  if (const auto* n = std::get_if<double>(&found->second)) return *n;
  return std::nullopt;
}

}  // namespace rwkvcpp
