// Tensors that a reader outside found: stored in any file, or made when they are
// loaded; and weights that get another type on the way into the model.
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/mapped_file.h"
#include "doctest.h"
#include "model/model.h"
#include "random_model.h"

namespace {

using namespace rwkvcpp;
using namespace rwkvcpp::testing;

std::vector<float> logits_of(Model& model) {
  const std::vector<TokenId> tokens = {3, 49, 0, 7};
  const auto state = model.initial_state();
  std::vector<float> logits(tokens.size() * model.config().n_vocab);
  const Sequence sequence = {tokens, state.get()};
  model.forward(std::span(&sequence, 1), true, logits);
  return logits;
}

/// r_k as checkpoints have it, so that the head size can be told.
std::vector<TensorInfo> found_in(const ModelFile& file, const ModelSize& size) {
  std::vector<TensorInfo> tensors = file.tensors;
  for (TensorInfo& tensor : tensors) {
    if (tensor.name.ends_with(".r_k")) tensor.shape = {size.heads, size.head_size()};
  }
  return tensors;
}

std::vector<std::shared_ptr<const MappedFile>> files_of(const ModelOnDisk& model) {
  return {std::make_shared<const MappedFile>(model.path())};
}

template <class Error, class Call>
std::string message(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_CASE("tensors found elsewhere run as those of a file, stored ones and made ones") {
  const ModelBuilder builder = rwkv7();
  const ModelOnDisk disk(builder.bytes());
  const auto whole = ModelFile::open(disk.path());
  std::vector<TensorInfo> tensors = found_in(*whole, builder.size());
  for (std::size_t i = 0; i < tensors.size(); i += 2) {
    const TensorInfo& stored = whole->tensors[i];
    tensors[i].make = [whole, &stored](void* out) {
      whole->read(stored, 0, static_cast<std::size_t>(stored.n_bytes), out);
    };
    tensors[i].offset = 0;
  }
  const auto file = ModelFile::from_tensors("elsewhere", "test", files_of(disk), tensors, 1e-5);
  CHECK(file->container == "test");
  CHECK(file->head_size == builder.size().head_size());
  for (const bool mmap : {false, true}) {
    const auto expected = disk.load({.mmap = mmap});
    const auto found = Model::load(file, {.mmap = mmap});
    CHECK(logits_of(*found) == logits_of(*expected));
  }
}

TEST_CASE("a tensor that leaves its file is refused") {
  const ModelBuilder builder = rwkv7();
  const ModelOnDisk disk(builder.bytes());
  const auto whole = ModelFile::open(disk.path());
  const std::uint64_t size = std::filesystem::file_size(disk.path());
  for (const std::uint64_t offset : {size, size - 1, ~std::uint64_t{0} - 8}) {
    std::vector<TensorInfo> tensors = found_in(*whole, builder.size());
    tensors[0].offset = offset;
    const std::string said = message<ModelFormatError>(
        [&] { ModelFile::from_tensors("elsewhere", "test", files_of(disk), tensors, 1e-5); });
    CHECK(said == disk.path() + ": tensor emb.weight takes 6400 bytes at " +
                      std::to_string(offset) + ", the file has " + std::to_string(size));
  }
  std::vector<TensorInfo> tensors = found_in(*whole, builder.size());
  tensors[0].file = 1;
  CHECK(message<std::out_of_range>([&] {
          ModelFile::from_tensors("elsewhere", "test", files_of(disk), tensors, 1e-5);
        }) == "elsewhere: tensor emb.weight lies in file 1 of 1");
}

TEST_CASE("made tensors are slices of nothing, and no file has them") {
  const auto make = [](void*) {};
  const TensorInfo fused = {.name = "blocks.0.att.x_rwkvag",
                            .file_name = "x",
                            .type = WeightType::kF32,
                            .shape = {6, 32},
                            .offset = 0,
                            .n_bytes = 6 * 32 * 4,
                            .make = make};
  CHECK(message<UnsupportedError>([&] {
          ModelFile::from_tensors("elsewhere", "test", {}, {fused}, 1e-5);
        }) == "elsewhere: tensor x is fused, expected its slices one by one");

  TensorInfo plain = fused;
  plain.name = "emb.weight";
  const auto file = ModelFile::from_tensors("elsewhere", "test", {}, {plain}, 1e-5);
  float value = 0;
  CHECK(message<Error>([&] { file->read(file->tensors[0], 0, 4, &value); }) ==
        "elsewhere: tensor emb.weight is made, no file holds it");
  CHECK(message<Error>([&] { file->mapped(file->tensors[0]); }) ==
        "elsewhere: tensor emb.weight is made, no file holds it");
}

TEST_CASE("weights quantized while they are loaded are those of the quantized file") {
  for (const WeightType type : {WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ5_1}) {
    const ModelBuilder builder = rwkv7();
    const ModelOnDisk floats(builder.bytes());
    const ModelOnDisk blocks(builder.bytes(type));
    const auto stored = ModelFile::open(blocks.path());
    TypeMap types;
    for (const TensorInfo& tensor : stored->tensors) {
      types.emplace(tensor.name, tensor.type);
    }
    const auto expected = blocks.load();
    const auto found = floats.load({.types = types});
    CHECK(logits_of(*found) == logits_of(*expected));
    CHECK(found->packed_bytes() == expected->packed_bytes());
    CHECK(found->main_format().type == type);
    CHECK(logits_of(*floats.load()) != logits_of(*expected));
  }
}

TEST_CASE("rows that do not fill the blocks of the type asked for are an error") {
  const ModelOnDisk disk(rwkv7().bytes());
  const TypeMap types = {{"head.weight", WeightType::kQ6_K}};
  CHECK(message<ModelFormatError>([&] { disk.load({.types = types}); }) ==
        disk.path() +
            ": tensor head.weight has rows of 32, expected a multiple of 256, "
            "the block of Q6_K");
}

}  // namespace
