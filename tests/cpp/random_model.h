// Random models of any version and size, as files in rwkv.cpp's format, open to damage.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest.h"
#include "model/model.h"
#include "model_bytes.h"
#include "numeric.h"
#include "quant/format.h"

namespace rwkvcpp::testing {

struct ModelSize {
  std::size_t vocab = 50;  // not a multiple of a tile's 16 outputs
  std::size_t embd = 32;
  std::size_t ffn = 64;
  std::size_t rank = 8;
  std::size_t layers = 3;  // the first is special in version 7
  std::size_t heads = 2;

  std::size_t head_size() const { return embd / heads; }
};

struct Tensor {
  std::string name;
  std::vector<std::size_t> dims;  // fastest first, as files have them
  std::vector<float> values;
};

class ModelBuilder {
 public:
  explicit ModelBuilder(const ModelSize& size) : size_(size) {}

  const ModelSize& size() const { return size_; }
  Tensor& operator[](const std::string& name) {
    const auto found = std::ranges::find(tensors_, name, &Tensor::name);
    REQUIRE(found != tensors_.end());
    return *found;
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const Tensor& t) { return t.name == name; });
  }
  void add(const std::string& name, std::vector<std::size_t> dims, float centre = 0) {
    std::size_t n = 1;
    for (const std::size_t dim : dims) n *= dim;
    tensors_.push_back({name, std::move(dims), random_.floats(n, centre - 0.5F, centre + 0.5F)});
  }
  void add_norm(const std::string& name) {
    add(name + ".weight", {size_.embd}, 1);
    add(name + ".bias", {size_.embd});
  }
  /// A weight of its own for each of these, [embd, embd].
  void add_square_matrices(const std::string& prefix, std::initializer_list<const char*> names) {
    for (const char* name : names) add(prefix + name + ".weight", {size_.embd, size_.embd});
  }
  /// The token shifts of versions 4 to 6.
  void add_shifts(const std::string& prefix, std::string_view letters) {
    for (const char letter : letters) add(prefix + letter, {size_.embd});
  }

  /// Whatever has two dimensions is of the type `matrices`; low-rank matrices, as in published
  /// files, stay floats.
  std::string bytes(WeightType matrices = WeightType::kF32) const {
    Bytes file;
    const auto code = static_cast<std::uint32_t>(format(matrices).ggmf_code);
    for (const std::size_t n : {std::size_t{0x67676d66}, std::size_t{101}, size_.vocab, size_.embd,
                                size_.layers, std::size_t{code}}) {
      file.number(static_cast<std::uint32_t>(n));
    }
    for (const Tensor& tensor : tensors_) {
      append(file, tensor, format(stored_type(tensor, matrices)));
    }
    return file.str();
  }

 private:
  static WeightType stored_type(const Tensor& tensor, WeightType matrices) {
    if (tensor.dims.size() != 2) return WeightType::kF32;
    if (format(matrices).is_float || tensor.name.ends_with(".weight")) return matrices;
    return WeightType::kF16;
  }
  static void append(Bytes& file, const Tensor& tensor, const Format& format) {
    file.number(static_cast<std::uint32_t>(tensor.dims.size()));
    file.number(static_cast<std::uint32_t>(tensor.name.size()));
    file.number(static_cast<std::uint32_t>(format.ggmf_code));
    for (const std::size_t dim : tensor.dims) file.number(static_cast<std::uint32_t>(dim));
    std::string stored(format.row_bytes(tensor.values.size()), '\0');
    format.quantize(tensor.values.data(), tensor.values.size() / format.block_inputs,
                    stored.data());
    file.text(tensor.name).text(stored);
  }

  ModelSize size_;
  std::vector<Tensor> tensors_;
  Random random_{7};
};

inline void add_ends(ModelBuilder& model) {
  const auto& [vocab, embd, ffn, rank, layers, heads] = model.size();
  model.add("emb.weight", {embd, vocab});
  model.add_norm("blocks.0.ln0");
  model.add_norm("ln_out");
  model.add("head.weight", {embd, vocab});
}

/// Channel mixing of versions 4 to 6; `shift` is what the version calls its token shifts.
inline void add_gated_channel_mix(ModelBuilder& model, const std::string& block,
                                  const std::string& shift) {
  const ModelSize& s = model.size();
  model.add_shifts(block + ".ffn." + shift, "kr");
  model.add(block + ".ffn.key.weight", {s.embd, s.ffn});
  model.add_square_matrices(block + ".ffn.", {"receptance"});
  model.add(block + ".ffn.value.weight", {s.ffn, s.embd});
}

inline ModelBuilder rwkv4(const ModelSize& s = {}) {
  ModelBuilder model(s);
  add_ends(model);
  for (std::size_t i = 0; i < s.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    const std::string att = block + ".att.";
    for (const char* ln : {".ln1", ".ln2"}) model.add_norm(block + ln);
    model.add_shifts(att + "time_mix_", "kvr");
    model.add(att + "time_decay", {s.embd}, -1);  // stored after -exp(): negative
    model.add(att + "time_first", {s.embd});
    model.add_square_matrices(att, {"receptance", "key", "value", "output"});
    add_gated_channel_mix(model, block, "time_mix_");
  }
  return model;
}

inline ModelBuilder rwkv5_2(const ModelSize& s = {}) {
  ModelBuilder model(s);
  add_ends(model);
  for (std::size_t i = 0; i < s.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    const std::string att = block + ".att.";
    for (const char* ln : {".ln1", ".ln2", ".att.ln_x"}) model.add_norm(block + ln);
    model.add_shifts(att + "time_mix_", "kvrg");
    model.add(att + "time_decay", {1, s.head_size(), s.heads}, 0.5F);  // after exp(-exp())
    model.add(att + "time_faaaa", {1, s.head_size(), s.heads});
    model.add_square_matrices(att, {"receptance", "key", "value", "gate", "output"});
    add_gated_channel_mix(model, block, "time_mix_");
  }
  return model;
}

inline ModelBuilder rwkv6(const ModelSize& s = {}) {
  ModelBuilder model(s);
  add_ends(model);
  for (std::size_t i = 0; i < s.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    const std::string att = block + ".att.";
    for (const char* ln : {".ln1", ".ln2", ".att.ln_x"}) model.add_norm(block + ln);
    model.add_shifts(att + "time_maa_", "xwkvrg");
    model.add(att + "time_maa_w1", {s.embd, 5 * s.rank});
    model.add(att + "time_maa_w2", {s.rank, s.embd, 5});
    model.add(att + "time_decay", {1, s.head_size(), s.heads}, -1);
    model.add(att + "time_decay_w1", {s.embd, s.rank});
    model.add(att + "time_decay_w2", {s.rank, s.embd});
    model.add(att + "time_faaaa", {1, s.head_size(), s.heads});
    model.add_square_matrices(att, {"receptance", "key", "value", "gate", "output"});
    add_gated_channel_mix(model, block, "time_maa_");
  }
  return model;
}

inline ModelBuilder rwkv7(const ModelSize& s = {}) {
  ModelBuilder model(s);
  add_ends(model);
  for (std::size_t i = 0; i < s.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    const std::string att = block + ".att.";
    for (const char* ln : {".ln1", ".ln2", ".att.ln_x"}) model.add_norm(block + ln);
    model.add(att + "x_rwkvag", {s.embd, 1, 6});
    for (const char* low : {"w", "a", "v", "g"}) {
      model.add(att + low + "1", {s.embd, s.rank});
      model.add(att + low + "2", {s.rank, s.embd});
    }
    for (const char* name : {"w0", "a0", "v0", "k_k", "k_a"}) model.add(att + name, {s.embd, 1, 1});
    model.add(att + "r_k", {s.head_size(), s.heads});
    model.add_square_matrices(att, {"receptance", "key", "value", "output"});
    model.add(block + ".ffn.x_k", {s.embd, 1, 1});
    model.add(block + ".ffn.key.weight", {s.embd, s.ffn});
    model.add(block + ".ffn.value.weight", {s.ffn, s.embd});
  }
  return model;
}

/// A file of its own, named tiny.bin, removed in the end.
class ModelOnDisk {
 public:
  explicit ModelOnDisk(const std::string& bytes) {
    std::string name = (std::filesystem::temp_directory_path() / "rwkvcpp-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    std::ofstream(path(), std::ios::binary) << bytes;
  }
  ~ModelOnDisk() { std::filesystem::remove_all(folder_); }
  ModelOnDisk(const ModelOnDisk&) = delete;
  ModelOnDisk& operator=(const ModelOnDisk&) = delete;

  std::string path() const { return (folder_ / "tiny.bin").string(); }
  std::unique_ptr<Model> load(const ModelOptions& options = {}) const {
    return Model::load(path(), options);
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace rwkvcpp::testing
