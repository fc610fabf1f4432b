// GGUF files: names, shapes and metadata; and every way to be wrong.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "doctest.h"
#include "io/model_file.h"
#include "io/tensor_names.h"
#include "model_bytes.h"

namespace {

using namespace rwkvcpp;
using namespace rwkvcpp::testing;

// Numbers of value types in the file.
enum Value : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64 };

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> dims;  // fastest first, as in the file
  std::uint32_t type = 0;
  std::optional<std::uint64_t> offset = {};  // where it is not the next free one

  std::uint64_t n_bytes() const {
    std::uint64_t n = type == 0 ? 4 : 2;
    for (const std::uint64_t dim : dims) n *= dim;
    return type == 8 ? n / 2 / 32 * 34 : n;
  }
};

struct File {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> n_pairs, n_tensors;
  std::vector<std::string> pairs;
  std::vector<Tensor> tensors;
  std::uint64_t alignment = 32;

  template <class T>
  File& with(const std::string& key, std::uint32_t type, T value) {
    pairs.push_back(Bytes().string(key).number(type).number(value).str());
    return *this;
  }
  File& with(const std::string& key, const std::string& value) {
    pairs.push_back(Bytes().string(key).number<std::uint32_t>(kString).string(value).str());
    return *this;
  }
  File& with(Tensor tensor) {
    tensors.push_back(std::move(tensor));
    return *this;
  }
  File& without_tensors() {
    tensors.clear();
    return *this;
  }

  std::uint64_t aligned(std::uint64_t n) const {
    return (n + alignment - 1) / alignment * alignment;
  }

  std::string bytes() const {
    Bytes bytes;
    bytes.text(magic).number(version);
    bytes.number<std::uint64_t>(n_tensors.value_or(tensors.size()));
    bytes.number<std::uint64_t>(n_pairs.value_or(pairs.size()));
    for (const std::string& pair : pairs) bytes.text(pair);
    std::uint64_t end = 0;
    for (const Tensor& t : tensors) {
      bytes.string(t.name).number(static_cast<std::uint32_t>(t.dims.size()));
      for (const std::uint64_t dim : t.dims) bytes.number(dim);
      bytes.number(t.type).number(t.offset.value_or(aligned(end)));
      end = aligned(end) + t.n_bytes();
    }
    return bytes.zeros(aligned(bytes.str().size()) - bytes.str().size()).zeros(end).str();
  }

  std::shared_ptr<const ModelFile> parsed() const {
    const std::string data = bytes();
    return ModelFile::parse("test", as_bytes(data));
  }
};

File with_architecture(const std::string& name) {
  File file;
  file.with("general.architecture", name);
  return file;
}

File rwkv6() {
  return with_architecture("rwkv6")
      .with("rwkv6.block_count", kU32, 1U)
      .with("rwkv6.embedding_length", kU32, 32U)
      .with("rwkv6.wkv.head_size", kU32, 16U)
      .with("rwkv6.attention.layer_norm_epsilon", kF32, 1e-5F)
      .with("rwkv6.rescale_every_n_layers", kU32, 6U)
      .with({"token_embd.weight", {32, 4}, 1})
      .with({"token_embd_norm.weight", {32}})
      .with({"blk.0.attn_norm_2.bias", {32}})
      .with({"blk.0.time_mix_lerp_x.weight", {32}})
      .with({"blk.0.time_mix_w1.weight", {32, 40}})
      .with({"blk.0.time_mix_w2.weight", {8, 32, 5}})
      .with({"blk.0.time_mix_first.weight", {16, 2}})
      .with({"blk.0.time_mix_decay.weight", {32}})
      .with({"blk.0.time_mix_ln.weight", {32}})
      .with({"blk.0.time_mix_gate.weight", {32, 32}, 8})
      .with({"blk.0.channel_mix_lerp_r.weight", {32}})
      .with({"blk.0.channel_mix_receptance.weight", {32, 32}, 8});
}

File rwkv7() {
  return with_architecture("rwkv7")
      .with("rwkv7.block_count", kU32, 1U)
      .with("rwkv7.wkv.head_size", kU32, 8U)
      .with({"token_embd.weight", {32, 4}, 1})
      .with({"output.weight", {32, 4}, 8})
      .with({"blk.0.time_mix_lerp_fused.weight", {32, 1, 1, 6}})
      .with({"blk.0.time_mix_w1.weight", {32, 16}})
      .with({"blk.0.time_mix_w2.weight", {16, 32}})
      .with({"blk.0.time_mix_r_k.weight", {32}})
      .with({"blk.0.channel_mix_lerp_k.weight", {32}});
}

std::string after(File file, const std::string& key, const std::string& value) {
  return outcome(file.with(key, value).bytes());
}

template <class T>
std::string after(File file, const std::string& key, std::uint32_t type, T value) {
  return outcome(file.with(key, type, value).bytes());
}

std::string after(File file, Tensor tensor) {
  return outcome(file.with(std::move(tensor)).bytes());
}

}  // namespace

TEST_CASE("gguf: rwkv6 gets the checkpoint's names and shapes") {
  const auto model = rwkv6().with({"blk.0.time_mix_lerp_fused.weight", {32, 1, 1, 5}}).parsed();
  CHECK(model->container == "GGUF v3");
  CHECK(model->architecture == "rwkv6");
  CHECK(model->head_size == 16);
  CHECK(!model->decay_applied);
  CHECK(shape_of(*model, "emb.weight") == "[4, 32]");
  CHECK(model->find("emb.weight")->type == WeightType::kF16);
  CHECK(shape_of(*model, "blocks.0.ln0.weight") == "[32]");
  CHECK(shape_of(*model, "blocks.0.ln2.bias") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.time_maa_x") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.time_maa_w1") == "[40, 32]");
  CHECK(shape_of(*model, "blocks.0.att.time_faaaa") == "[2, 16]");
  CHECK(shape_of(*model, "blocks.0.att.time_decay") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.gate.weight") == "[32, 32]");
  CHECK(shape_of(*model, "blocks.0.ffn.time_maa_r") == "[32]");
  CHECK(shape_of(*model, "blocks.0.ffn.receptance.weight") == "[32, 32]");

  const TensorInfo* first = model->find("blocks.0.att.time_maa_w");
  REQUIRE(first != nullptr);
  const std::string order = "wkvrg";
  for (std::size_t i = 0; i < order.size(); ++i) {
    const TensorInfo* lerp = model->find(std::string("blocks.0.att.time_maa_") + order[i]);
    const TensorInfo* matrix = model->find(std::string("blocks.0.att.time_maa_w2.") + order[i]);
    REQUIRE(lerp != nullptr);
    REQUIRE(matrix != nullptr);
    CHECK(lerp->shape == std::vector<std::size_t>{32});
    CHECK(lerp->offset == first->offset + i * 32 * 4);
    CHECK(matrix->shape == std::vector<std::size_t>{32, 8});
  }
}

TEST_CASE("gguf: older rwkv6 files with separate lerps come out the same") {
  File file = rwkv6();
  for (const char* letter : {"w", "k", "v", "r", "g"}) {
    file.with({std::string("blk.0.time_mix_lerp_") + letter + ".weight", {32}});
  }
  const auto model = file.parsed();
  for (const char* letter : {"w", "k", "v", "r", "g"}) {
    CHECK(shape_of(*model, std::string("blocks.0.att.time_maa_") + letter) == "[32]");
  }
}

TEST_CASE("gguf: metadata that the model needs can be looked up") {
  const auto model = rwkv6().parsed();
  CHECK(std::get<std::uint64_t>(model->metadata.at("rwkv6.rescale_every_n_layers")) == 6);
  CHECK(std::get<double>(model->metadata.at("rwkv6.attention.layer_norm_epsilon")) ==
        static_cast<double>(1e-5F));
}

TEST_CASE("gguf: w1 and w2 are the decay's in rwkv7, the lerps' in rwkv6") {
  CHECK(shape_of(*rwkv7().parsed(), "blocks.0.att.w1") == "[16, 32]");
  CHECK(shape_of(*rwkv7().parsed(), "blocks.0.att.time_maa_w1") == "missing");
  CHECK(shape_of(*rwkv6().parsed(), "blocks.0.att.w1") == "missing");
}

TEST_CASE("gguf: rwkv7 gets the checkpoint's names and shapes") {
  const auto model = rwkv7().parsed();
  CHECK(model->head_size == 8);
  CHECK(shape_of(*model, "head.weight") == "[4, 32]");
  CHECK(shape_of(*model, "blocks.0.att.r_k") == "[32]");
  CHECK(shape_of(*model, "blocks.0.ffn.x_k") == "[32]");
  const TensorInfo* first = model->find("blocks.0.att.x_r");
  REQUIRE(first != nullptr);
  const std::string order = "rwkvag";
  for (std::size_t i = 0; i < order.size(); ++i) {
    const TensorInfo* lerp = model->find(std::string("blocks.0.att.x_") + order[i]);
    REQUIRE(lerp != nullptr);
    CHECK(lerp->offset == first->offset + i * 32 * 4);
    CHECK(lerp->file_name == "blk.0.time_mix_lerp_fused.weight[" + std::to_string(i) + "]");
  }
}

TEST_CASE("gguf: outer dimensions of 1, kept or dropped by the writer, make no difference") {
  const auto padded = rwkv7().with({"blk.0.channel_mix_key.weight", {32, 64, 1, 1}}).parsed();
  CHECK(shape_of(*padded, "blocks.0.ffn.key.weight") == "[64, 32]");
  const auto one_head = with_architecture("rwkv6")
                            .with({"blk.0.time_mix_lerp_x.weight", {32, 1, 1}})
                            .with({"blk.0.time_mix_first.weight", {32}})
                            .parsed();
  CHECK(shape_of(*one_head, "blocks.0.att.time_maa_x") == "[32]");
  CHECK(shape_of(*one_head, "blocks.0.att.time_faaaa") == "[1, 32]");
}

TEST_CASE("gguf: unknown names stay for the model to list") {
  for (const char* name : {"blk.0.odd.weight", "blk.00.attn_norm.weight", "blk.x", "blk.",
                           "blk.99999999999999999999.attn_norm.weight", "rope_freqs.weight"}) {
    const auto model = with_architecture("rwkv7").with({name, {32}}).parsed();
    CHECK(shape_of(*model, name) == "[32]");
  }
}

TEST_CASE("gguf: metadata of every type is kept") {
  File file = rwkv7();
  file.with("a", kU8, std::uint8_t{200}).with("b", kI8, std::int8_t{-3});
  file.with("c", kI16, std::int16_t{-300}).with("d", kU64, UINT64_MAX);
  file.with("e", 11, INT64_MIN).with("f", 12, 0.1).with("g", kBool, std::uint8_t{1});
  file.with("h", std::string("\xff\0any", 5));
  const auto model = file.parsed();
  CHECK(std::get<std::uint64_t>(model->metadata.at("a")) == 200);
  CHECK(std::get<std::int64_t>(model->metadata.at("b")) == -3);
  CHECK(std::get<std::int64_t>(model->metadata.at("c")) == -300);
  CHECK(std::get<std::uint64_t>(model->metadata.at("d")) == UINT64_MAX);
  CHECK(std::get<std::int64_t>(model->metadata.at("e")) == INT64_MIN);
  CHECK(std::get<double>(model->metadata.at("f")) == 0.1);
  CHECK(std::get<bool>(model->metadata.at("g")));
  CHECK(std::get<std::string>(model->metadata.at("h")) == std::string("\xff\0any", 5));
}

namespace {

Bytes array_head(const std::string& key, std::uint32_t type, std::uint64_t n) {
  return Bytes().string(key).number<std::uint32_t>(kArray).number(type).number(n);
}

std::string after_array(const Bytes& array) {
  File file = rwkv7();
  file.pairs.push_back(array.str());
  return outcome(file.bytes());
}

}  // namespace

TEST_CASE("gguf: arrays are kept") {
  File file = rwkv7();
  file.pairs.push_back(array_head("s", kString, 2).string("a").string("").str());
  file.pairs.push_back(array_head("i", kI32, 2).number(-1).number(7).str());
  file.pairs.push_back(array_head("f", kF32, 1).number(0.5F).str());
  file.pairs.push_back(array_head("b", kBool, 2).text(std::string("\1\0", 2)).str());
  const auto model = file.parsed();
  using Integers = std::vector<std::int64_t>;
  CHECK(std::get<std::vector<std::string>>(model->metadata.at("s")) ==
        std::vector<std::string>{"a", ""});
  CHECK(std::get<Integers>(model->metadata.at("i")) == Integers{-1, 7});
  CHECK(std::get<std::vector<double>>(model->metadata.at("f")) == std::vector<double>{0.5});
  CHECK(std::get<Integers>(model->metadata.at("b")) == Integers{1, 0});
}

TEST_CASE("gguf: wrong arrays are refused before anything is allocated") {
  CHECK(after_array(array_head("k", kArray, 1)) ==
        Contains("metadata k: is an array of arrays, expected an array of plain values"));
  CHECK(after_array(array_head("k", kU8, UINT64_MAX)) ==
        Contains("is an array of 18446744073709551615 elements"));
  CHECK(after_array(array_head("k", kString, 1U << 20)) == Contains("is an array of 1048576"));
  CHECK(after_array(array_head("k", 13, 1)) == Contains("has value type 13, expected 0 to 12"));
  CHECK(after_array(array_head("k", kU64, 1).number(UINT64_MAX)) ==
        Contains("an array's element is 18446744073709551615, expected below 2^63"));
  CHECK(after_array(array_head("k", kString, 1).number(UINT64_MAX)) ==
        Contains("a string takes 18446744073709551615 bytes"));
  CHECK(after_array(array_head("k", kBool, 1).text("\2")) ==
        Contains("a bool is 2, expected 0 or 1"));
}

TEST_CASE("gguf: a file cut at any byte is an error") {
  for (const File& file : {rwkv6(), rwkv7()}) {
    const std::string whole = file.bytes();
    REQUIRE(outcome(whole) == "ok");
    for (std::size_t n = 0; n < whole.size(); ++n) {
      CAPTURE(n);
      CHECK(is_error(outcome(whole.substr(0, n))));
    }
  }
}

TEST_CASE("gguf: any single byte changed is an error or a file in bounds, never a crash") {
  const std::string whole = rwkv6().bytes();
  for (std::size_t i = 0; i < 1400; ++i) {
    for (const char value : {'\x00', '\x01', '\x7f', '\x80', '\xff'}) {
      std::string changed = whole;
      changed[i] = value;
      const std::string result = outcome(changed);
      CHECK((result == "ok" || is_error(result)));
    }
  }
}

TEST_CASE("gguf: versions and flavours that are not read say what to do") {
  const auto version = [](std::uint32_t n) {
    File file = rwkv7();
    file.version = n;
    return outcome(file.bytes());
  };
  CHECK(version(2) == "ok");
  CHECK(version(1) ==
        Contains("UnsupportedError: test: header: is GGUF version 1; convert the model again"));
  CHECK(version(4) == Contains("is GGUF version 4, expected 2 or 3"));
  CHECK(version(0x03000000) == Contains("is big-endian; convert it with gguf-convert-endian"));
  CHECK(after(rwkv7(), "split.count", kU16, std::uint16_t{3}) ==
        Contains("UnsupportedError: test: is one of 3 parts; join them with llama-gguf-split"));
  CHECK(after(rwkv7(), "split.count", kU16, std::uint16_t{1}) == "ok");
  CHECK(after(rwkv7(), "general.type", "adapter") == Contains("general.type is \"adapter\""));
}

TEST_CASE("gguf: tensors are named there and back") {
  struct Names {
    const char *architecture, *official, *gguf;
  };
  constexpr Names kNames[] = {
      {"rwkv4", "emb.weight", "token_embd.weight"},
      {"rwkv4", "blocks.0.ln0.bias", "token_embd_norm.bias"},
      {"rwkv4", "blocks.11.att.time_first", "blk.11.time_mix_first.weight"},
      {"rwkv4", "blocks.1.ffn.time_mix_r", "blk.1.channel_mix_lerp_r.weight"},
      {"rwkv5", "blocks.1.att.time_faaaa", "blk.1.time_mix_first.weight"},
      {"rwkv5", "blocks.1.att.time_first", "blk.1.time_mix_first_log.weight"},
      {"rwkv5", "blocks.1.att.gate.weight", "blk.1.time_mix_gate.weight"},
      {"rwkv6", "blocks.1.att.time_maa_w1", "blk.1.time_mix_w1.weight"},
      {"rwkv7", "blocks.1.att.w1", "blk.1.time_mix_w1.weight"},
      {"rwkv7", "blocks.1.att.x_rwkvag", "blk.1.time_mix_lerp_fused.weight"},
      {"rwkv7", "blocks.1.ln2.weight", "blk.1.attn_norm_2.weight"},
  };
  for (const Names& names : kNames) {
    CHECK(gguf_name(names.architecture, names.official) == std::string(names.gguf));
    CHECK(checkpoint_name(names.architecture, names.gguf) == names.official);
  }
  CHECK(gguf_name("rwkv4", "blocks.1.att.gate.weight") == std::nullopt);
  CHECK(gguf_name("rwkv7", "blocks.1.ln0.weight") == std::nullopt);
  CHECK(gguf_name("rwkv7", "blocks.01.ln1.weight") == std::nullopt);
  CHECK(gguf_name("llama", "blocks.1.ln1.weight") == std::nullopt);
}

TEST_CASE("gguf: other architectures are named") {
  for (const char* name : {"llama", "arwkv7", "rwkv6qwen2", "rwkv", ""}) {
    CHECK(outcome(with_architecture(name).bytes()) ==
          Contains((std::string("UnsupportedError: test: general.architecture is \"") + name +
                    "\", this build runs rwkv4, rwkv5, rwkv6, rwkv7")));
  }
  CHECK(outcome(with_architecture("\x1b[31m").bytes()) == Contains("is \"\\x1b[31m\""));
  CHECK(outcome(File().bytes()) == "ModelFormatError: test: has no general.architecture");
  CHECK(outcome(File().with("general.architecture", kU32, 7U).bytes()) ==
        Contains("general.architecture is 7, expected a string"));
}

TEST_CASE("gguf: absurd counts are refused before anything is allocated") {
  File file = rwkv7();
  file.n_tensors = UINT64_MAX;
  CHECK(outcome(file.bytes()) == Contains("the number of tensors is 18446744073709551615, the"));
  file.n_tensors = file.tensors.size() + 1;
  CHECK(is_error(outcome(file.bytes())));
  file = rwkv7();
  file.n_pairs = 1ULL << 40;
  CHECK(outcome(file.bytes()) == Contains("the number of metadata is 1099511627776, the"));
}

TEST_CASE("gguf: wrong metadata is refused with the value found") {
  const File file = rwkv7();
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(after(file, "rwkv7.block_count", kU32, 1U) ==
        Contains("metadata rwkv7.block_count: is there twice"));
  CHECK(after(file, "rwkv7.embedding_length", kU32, 0U) ==
        Contains("rwkv7.embedding_length is 0, expected an integer from 1 to"));
  CHECK(after(file, "rwkv7.embedding_length", kI32, -32) == Contains("embedding_length is -32"));
  CHECK(after(file, "rwkv7.embedding_length", kF32, nan) == Contains("embedding_length is nan"));
  CHECK(after(file, "rwkv7.embedding_length", "32") == Contains("embedding_length is \"32\""));
  CHECK(after(file, "rwkv7.embedding_length", kI32, 32) == "ok");
  CHECK(after(file, "rwkv7.embedding_length", kU32, 64U) ==
        Contains("rwkv7.embedding_length is 64, the tensors say 32"));
  CHECK(after(file, "rwkv7.attention.layer_norm_epsilon", kF32, nan) ==
        Contains("layer_norm_epsilon is nan, expected a number between 0"));
  CHECK(after(file, "rwkv7.attention.layer_norm_epsilon", kF32, -1.0F) ==
        Contains("layer_norm_epsilon is -1"));
  CHECK(after(file, "rwkv7.rescale_every_n_layers", kU32, UINT32_MAX) ==
        Contains("rescale_every_n_layers is 4294967295"));
  CHECK(after(file, "", kU8, std::uint8_t{0}) == Contains("the key is 0 bytes long"));
  CHECK(after(file, "a\xc0\x80", kU8, std::uint8_t{0}) ==
        Contains("the key is \"a\\xc0\\x80\", expected printable UTF-8"));
  CHECK(after(file, std::string(70000, 'k'), kU8, std::uint8_t{0}) ==
        Contains("the key is 70000 bytes long, expected 1 to 65535"));
  CHECK(after(file, "k", 99, std::uint8_t{0}) == Contains("metadata k: has value type 99"));
}

TEST_CASE("gguf: the number of blocks must be that of the tensors") {
  CHECK(after(rwkv7(), {"blk.4.attn_norm.weight", {32}}) ==
        Contains("rwkv7.block_count is 1, the tensors say 5"));
}

TEST_CASE("gguf: a wrong tensor entry is refused with the value found") {
  const File file = rwkv7();
  CHECK(after(file, {"x", {}}) == Contains("tensor x has 0 dimensions, expected 1 to 4"));
  CHECK(after(file, {"x", {1, 1, 1, 1, 1}}) == Contains("tensor x has 5 dimensions"));
  CHECK(after(file, {"x", {32, 0}}) == Contains("tensor x: dimension 1 is 0"));
  CHECK(after(file, {"x", {33}, 8}) ==
        Contains("tensor x is Q8_0 with rows of 33, expected a multiple of 32"));
  CHECK(after(file, {"", {32}}) == Contains("the name is 0 bytes long"));
  CHECK(after(file, {std::string(64, 'n'), {32}}) ==
        Contains("the name is 64 bytes long, expected 1 to 63"));
  CHECK(after(file, {"\xed\xa0\x80", {32}}) == Contains("expected printable UTF-8"));
  CHECK(after(file, {"a\nb", {32}}) == Contains("the name is \"a\\x0ab\""));
  CHECK(after(file, {"output.weight", {32, 4}}) ==
        Contains("has tensor head.weight twice, as output.weight and as output.weight"));
}

// The builder would write the data of these, so only their entries are made.
TEST_CASE("gguf: sizes that overflow are refused") {
  const auto dims = [](const std::vector<std::uint64_t>& sizes, std::uint32_t type) {
    File file = with_architecture("rwkv7");
    file.n_tensors = 1;
    Bytes entry;
    entry.string("x").number(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) entry.number(size);
    const std::string head = file.bytes().substr(0, 24 + file.pairs[0].size());
    return outcome(head + entry.number(type).number<std::uint64_t>(0).zeros(64).str());
  };
  CHECK(dims({1ULL << 62}, 0) == Contains("tensor x is larger than any file: dimension 0"));
  CHECK(dims({UINT64_MAX}, 0) == Contains("larger than any file"));
  CHECK(dims({1ULL << 32, 1ULL << 32}, 0) == Contains("dimension 1 is 4294967296"));
  CHECK(dims({1ULL << 16, 1ULL << 16, 1ULL << 16, 1ULL << 16}, 8) == Contains("dimension 3"));
  CHECK(dims({UINT64_MAX - 31}, 8) == Contains("larger than any file"));
  CHECK(dims({1ULL << 40}, 0) == Contains("takes 4398046511104 bytes from offset 0, the file has"));
}

TEST_CASE("gguf: types are refused by name, removed ones with what to do") {
  const auto type = [](std::uint32_t id) { return after(rwkv7(), {"x", {256}, id}); };
  CHECK(type(16) ==
        Contains("UnsupportedError: test: tensor 7 of 8: tensor x is of IQ2_XXS (type 16), this "
                 "build reads F32, F16"));
  CHECK(type(29) == Contains("tensor x is of IQ1_M (type 29)"));
  CHECK(type(4) == Contains("type 4, which ggml removed (quantize the model again)"));
  CHECK(type(36) == Contains("type 36, which ggml removed"));
  CHECK(type(99) == Contains("tensor x is of type 99 (unknown)"));
  CHECK(type(UINT32_MAX) == Contains("UnsupportedError"));
}

TEST_CASE("gguf: offsets must be aligned, inside the file and apart") {
  const File file = rwkv7();
  CHECK(after(file, {"x", {32}, 0, 16}) ==
        Contains("tensor x has offset 16, expected a multiple of 32"));
  CHECK(after(file, {"x", {32}, 0, 1ULL << 40}) ==
        Contains("tensor x takes 128 bytes from offset 1099511627776, the file has"));
  CHECK(after(file, {"x", {32}, 0, UINT64_MAX - 31}) == Contains("tensor x takes 128 bytes from"));
  CHECK(after(file, {"x", {32}, 0, 0}) == Contains(", inside "));
  CHECK(after(file, {"x", {8}, 0, 64}) == Contains("tensor x begins at byte"));
}

TEST_CASE("gguf: the alignment is a power of two") {
  const auto alignment = [](std::uint32_t n) {
    File file = rwkv7();
    file.alignment = n;
    return outcome(file.with("general.alignment", kU32, n).bytes());
  };
  CHECK(alignment(1) == "ok");
  CHECK(alignment(4096) == "ok");
  CHECK(alignment(48) == Contains("general.alignment is 48, expected a power of two"));
  CHECK(after(rwkv7(), "general.alignment", kU32, 0U) ==
        Contains("general.alignment is 0, expected an integer from 1"));
  CHECK(after(rwkv7(), "general.alignment", kU32, 1U << 31) == Contains("is 2147483648"));
}

TEST_CASE("gguf: fused lerps with the wrong number of slices are refused") {
  CHECK(after(rwkv6(), {"blk.0.time_mix_lerp_fused.weight", {32, 1, 1, 6}}) ==
        Contains("blk.0.time_mix_lerp_fused.weight holds 6 slices, expected 5 (wkvrg)"));
}

TEST_CASE("gguf: fused and separate lerps at once are refused") {
  CHECK(after(rwkv6().with({"blk.0.time_mix_lerp_fused.weight", {32, 1, 1, 5}}),
              {"blk.0.time_mix_lerp_k.weight", {32}}) ==
        Contains("has tensor blocks.0.att.time_maa_k twice"));
}

TEST_CASE("gguf: a vocabulary alone is a file without tensors") {
  CHECK(rwkv7().without_tensors().parsed()->tensors.empty());
}

TEST_CASE("gguf: the models of the demo are read") {
  const auto folder = shared_folder("demo");
  if (!folder) return;
  const auto f16 = ModelFile::open(*folder / "rwkv7-stories-f16.gguf");
  CHECK(f16->container == "GGUF v3");
  CHECK(f16->architecture == "rwkv7");
  CHECK(f16->head_size == 64);
  CHECK(f16->tensors.size() == 174 + 6 * 5);  // six lerps for each fused one
  CHECK(shape_of(*f16, "emb.weight") == "[4096, 256]");
  CHECK(shape_of(*f16, "blocks.5.att.g2") == "[256, 64]");
  CHECK(shape_of(*f16, "blocks.0.ffn.key.weight") == "[1024, 256]");
  CHECK(f16->find("head.weight")->type == WeightType::kF16);
  const auto& tokens =
      std::get<std::vector<std::string>>(f16->metadata.at("tokenizer.ggml.tokens"));
  CHECK(tokens.size() == 4096);

  const auto q8_0 = ModelFile::open(*folder / "rwkv7-stories-q8_0.gguf");
  CHECK(q8_0->find("head.weight")->type == WeightType::kQ8_0);
  CHECK(q8_0->find("blocks.0.att.w1")->type == WeightType::kF32);
}
