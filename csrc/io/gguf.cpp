// GGUF, little-endian:
//
//   "GGUF" u32 version, u64 n_tensors, u64 n_pairs
//   pairs:   string key, u32 type, value             (gguf_metadata.cpp)
//   tensors: string name, u32 n_dims, u64 dims (fastest first), u32 type, u64 offset
//   padding to general.alignment, then the data, where the offsets count from
//
// A string is a u64 length and its bytes.
#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/byte_reader.h"
#include "io/gguf_metadata.h"
#include "io/printable.h"
#include "io/tensor_entry.h"
#include "io/tensor_names.h"

namespace rwkvcpp {
namespace {

constexpr std::uint32_t kMaxDims = 4;
constexpr std::size_t kLongestName = 63;     // ggml keeps names in 64 bytes
constexpr std::uint64_t kMinPairBytes = 14;  // key of one byte, type, value of one byte
constexpr std::uint64_t kMinTensorBytes = 33;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = 1 << 30;

// Names of types that this build may lack, for messages. ggml_type numbers.
struct TypeName {
  std::uint32_t id;
  std::string_view name;
};

constexpr TypeName kOtherTypes[] = {
    {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {19, "IQ1_S"}, {22, "IQ2_S"},
    {24, "I8"},    {25, "I16"},   {26, "I32"},     {27, "I64"},    {28, "F64"},   {29, "IQ1_M"},
    {34, "TQ1_0"}, {35, "TQ2_0"}, {39, "MXFP4"},   {40, "NVFP4"},  {41, "Q1_0"},  {42, "Q2_0"},
};

constexpr std::uint32_t kRemovedTypes[] = {4, 5, 31, 32, 33, 36, 37, 38};

std::string describe_type(std::uint32_t id) {
  const std::string number = "type " + std::to_string(id);
  for (const TypeName& type : kOtherTypes) {
    if (type.id == id) return std::string(type.name) + " (" + number + ")";
  }
  const bool removed =
      std::find(std::begin(kRemovedTypes), std::end(kRemovedTypes), id) != std::end(kRemovedTypes);
  return number + (removed ? ", which ggml removed (quantize the model again)" : " (unknown)");
}

const Format& read_format(ByteReader& reader, const std::string& name) {
  const auto id = reader.number<std::uint32_t>("the type");
  if (const Format* format = find_gguf_format(id)) return *format;
  reader.unsupported("tensor " + name + " is of " + describe_type(id) + ", this build reads " +
                     readable_formats());
}

// ---- the parts of the file --------------------------------------------------

void read_version(ByteReader& reader, ModelFile& file) {
  reader.skip(4, "the magic");
  const auto version = reader.number<std::uint32_t>("the version");
  if (version == 0x02000000 || version == 0x03000000) {
    reader.unsupported("is big-endian; convert it with gguf-convert-endian");
  }
  if (version == 1) reader.unsupported("is GGUF version 1; convert the model again");
  if (version != 2 && version != 3) {
    reader.unsupported("is GGUF version " + std::to_string(version) + ", expected 2 or 3");
  }
  file.container = "GGUF v" + std::to_string(version);
}

std::uint64_t read_count(ByteReader& reader, std::string_view what, std::uint64_t min_bytes) {
  const auto n = reader.number<std::uint64_t>(what);
  if (n > reader.left() / min_bytes) {
    reader.fail(std::string(what) + " is " + std::to_string(n) + ", the " +
                std::to_string(reader.left()) + " bytes left hold at most " +
                std::to_string(reader.left() / min_bytes));
  }
  return n;
}

TensorInfo read_tensor(ByteReader& reader) {
  const auto length = reader.number<std::uint64_t>("the length of the name");
  const std::string name = read_name(reader, length, kLongestName, "the name");
  const auto n_dims = reader.number<std::uint32_t>("the number of dimensions");
  if (n_dims < 1 || n_dims > kMaxDims) {
    reader.fail("tensor " + name + " has " + std::to_string(n_dims) +
                " dimensions, expected 1 to " + std::to_string(kMaxDims));
  }
  std::vector<std::uint64_t> dims(n_dims);
  for (std::uint64_t& dim : dims) dim = reader.number<std::uint64_t>("a dimension");
  const Format& format = read_format(reader, name);
  TensorInfo tensor = make_tensor(reader, name, format, dims);
  tensor.offset = reader.number<std::uint64_t>("the offset");
  return tensor;
}

std::vector<TensorInfo> read_tensors(ByteReader& reader, std::uint64_t n_tensors) {
  std::vector<TensorInfo> tensors;
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    reader.enter("tensor " + std::to_string(i) + " of " + std::to_string(n_tensors));
    tensors.push_back(read_tensor(reader));
  }
  reader.enter("data");
  return tensors;
}

// ---- what kind of model it is -----------------------------------------------

void check_kind(const ModelFile& file, std::string_view expected) {
  const std::string kind = metadata_string(file, "general.type").value_or("model");
  if (kind != expected) {
    throw UnsupportedError(file.path + ": general.type is " + quoted(kind) + ", expected " +
                           quoted(expected));
  }
  const auto parts = metadata_integer(file, "split.count", 0, 65535).value_or(1);
  if (parts > 1) {
    throw UnsupportedError(file.path + ": is one of " + std::to_string(parts) +
                           " parts; join them with llama-gguf-split --merge");
  }
}

std::string find_architecture(const ModelFile& file) {
  const auto architecture = metadata_string(file, "general.architecture");
  if (!architecture) throw ModelFormatError(file.path + ": has no general.architecture");
  if (is_known_architecture(*architecture)) return *architecture;
  throw UnsupportedError(file.path + ": general.architecture is " + quoted(*architecture) +
                         ", this build runs " + known_architectures());
}

struct SizeKey {
  std::string_view key;
  std::uint64_t min, max;
};

constexpr SizeKey kSizeKeys[] = {
    {"embedding_length", 1, 1 << 24},       {"block_count", 1, 1 << 16},
    {"feed_forward_length", 1, 1 << 24},    {"wkv.head_size", 1, 1 << 16},
    {"rescale_every_n_layers", 0, 1 << 16},
};

void check_sizes(const ModelFile& file) {
  const std::string prefix = file.architecture + ".";
  for (const SizeKey& size : kSizeKeys) {
    metadata_integer(file, prefix + std::string(size.key), size.min, size.max);
  }
  metadata_number(file, prefix + "attention.layer_norm_epsilon", 0, 1);
}

// ---- where the data lie -----------------------------------------------------

std::uint64_t find_alignment(const ModelFile& file) {
  const auto alignment = metadata_integer(file, "general.alignment", 1, kMaxAlignment);
  if (alignment && !std::has_single_bit(*alignment)) {
    throw ModelFormatError(file.path + ": general.alignment is " + std::to_string(*alignment) +
                           ", expected a power of two");
  }
  return alignment.value_or(kDefaultAlignment);
}

// Turns offsets in the data into offsets in the file.
void place(const ModelFile& file, std::uint64_t position, std::vector<TensorInfo>& tensors) {
  const std::uint64_t alignment = find_alignment(file);
  const std::uint64_t begin = (position + alignment - 1) / alignment * alignment;
  const std::uint64_t room = file.file_bytes - std::min(begin, file.file_bytes);
  for (TensorInfo& tensor : tensors) {
    const std::string label = file.path + ": tensor " + tensor.name;
    if (tensor.offset % alignment != 0) {
      throw ModelFormatError(label + " has offset " + std::to_string(tensor.offset) +
                             ", expected a multiple of " + std::to_string(alignment));
    }
    if (tensor.offset > room || tensor.n_bytes > room - tensor.offset) {
      throw ModelFormatError(label + " takes " + std::to_string(tensor.n_bytes) +
                             " bytes from offset " + std::to_string(tensor.offset) +
                             ", the file has " + std::to_string(room) + " bytes of data");
    }
    tensor.offset += begin;
  }
}

void check_overlaps(const ModelFile& file, const std::vector<TensorInfo>& tensors) {
  std::vector<const TensorInfo*> sorted;
  for (const TensorInfo& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const TensorInfo& before = *sorted[i - 1];
    if (before.offset + before.n_bytes > sorted[i]->offset) {
      throw ModelFormatError(file.path + ": tensor " + sorted[i]->name + " begins at byte " +
                             std::to_string(sorted[i]->offset) + ", inside " + before.name +
                             ", expected " + std::to_string(before.offset + before.n_bytes) +
                             " or later");
    }
  }
}

// ---- metadata against tensors -----------------------------------------------

void check_against_tensors(const ModelFile& file) {
  if (file.tensors.empty()) return;  // a vocabulary only
  const auto expect = [&file](std::string_view name, std::size_t found) {
    const std::string key = file.architecture + "." + std::string(name);
    const auto stated = metadata_integer(file, key, 0, UINT64_MAX);
    if (!stated || *stated == found) return;
    throw ModelFormatError(file.path + ": " + key + " is " + std::to_string(*stated) +
                           ", the tensors say " + std::to_string(found));
  };
  expect("block_count", count_blocks(file.tensors));
  const TensorInfo* embedding = file.find("emb.weight");
  if (embedding != nullptr) expect("embedding_length", embedding->shape.back());
}

/// Up to the tensors, whose number it returns.
std::uint64_t read_head(ByteReader& reader, ModelFile& file) {
  read_version(reader, file);
  const std::uint64_t n_tensors = read_count(reader, "the number of tensors", kMinTensorBytes);
  const std::uint64_t n_pairs = read_count(reader, "the number of metadata", kMinPairBytes);
  read_metadata(reader, n_pairs, file);
  return n_tensors;
}

/// The tensors as the file names and shapes them.
std::vector<TensorInfo> read_placed_tensors(ByteReader& reader, const ModelFile& file,
                                            std::uint64_t n_tensors) {
  std::vector<TensorInfo> tensors = read_tensors(reader, n_tensors);
  place(file, reader.position(), tensors);
  check_overlaps(file, tensors);
  return tensors;
}

void find_head_size(ModelFile& file) {
  const auto n = metadata_integer(file, file.architecture + ".wkv.head_size", 1, 1 << 16);
  if (n) file.head_size = static_cast<std::size_t>(*n);
}

}  // namespace

void read_gguf(std::span<const std::uint8_t> bytes, ModelFile& file) {
  ByteReader reader(file.path, bytes);
  const std::uint64_t n_tensors = read_head(reader, file);
  check_kind(file, "model");
  file.architecture = find_architecture(file);
  check_sizes(file);
  find_head_size(file);

  std::vector<TensorInfo> tensors = read_placed_tensors(reader, file, n_tensors);
  for (TensorInfo& tensor : tensors) {
    tensor.name = checkpoint_name(file.architecture, tensor.name);
  }
  add_in_checkpoint_form(file, std::move(tensors));
  check_against_tensors(file);
}

void read_gguf_imatrix(std::span<const std::uint8_t> bytes, ModelFile& file) {
  ByteReader reader(file.path, bytes);
  const std::uint64_t n_tensors = read_head(reader, file);
  check_kind(file, "imatrix");
  for (TensorInfo& tensor : read_placed_tensors(reader, file, n_tensors)) {
    if (tensor.type != WeightType::kF32) {
      throw ModelFormatError(file.path + ": tensor " + tensor.name + " is " +
                             std::string(format(tensor.type).name) + ", expected F32");
    }
    file.add(std::move(tensor));
  }
}

}  // namespace rwkvcpp
