// A model file, whatever its container: named tensors and metadata.
//
// Readers (gguf.cpp, ggmf.cpp; rwkvcpp/checkpoints in Python for the others)
// present every file in one shape, so that models know nothing of containers:
//   - names are the official checkpoint's ("blocks.3.att.key.weight");
//   - every matrix is [outputs, inputs], low-rank ones too;
//   - a fused tensor appears as its slices ("x_rwkvag" as x_r, x_w, x_k, x_v,
//     x_a, x_g; v6's time_maa_w2 as time_maa_w2.w, .k, .v, .r, .g, each [C, R]);
//   - dimensions of 1 are squeezed out of vectors: [1, 1, C] is [C], but a
//     per-head [H, 1, 1] becomes [H] and [H, N, 1] becomes [H, N].
// What is left as the file has it: `decay_applied`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "quant/format.h"

namespace rwkvcpp {

class MappedFile;

struct TensorInfo {
  std::string name;       // official name
  std::string file_name;  // as the file spells it, for messages
  WeightType type;
  std::vector<std::size_t> shape;  // row-major, last dimension contiguous
  std::uint64_t offset;            // of the first byte, in the file
  std::uint64_t n_bytes;
  std::size_t file = 0;                           // index into ModelFile::files
  std::function<void(void* out)> make = nullptr;  // set when no file holds the bytes: writes all

  std::size_t n_elements() const noexcept;
};

using MetadataValue =
    std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<std::string>>;

class ModelFile {
 public:
  /// Opens and checks a GGUF (v2, v3) or rwkv.cpp (100, 101) file, recognised by
  /// its first bytes. Throws ModelFormatError, UnsupportedError, or
  /// std::filesystem::filesystem_error with the path and errno.
  static std::shared_ptr<const ModelFile> open(const std::string& path);

  /// The same for bytes in memory, which messages call `path`. There is no file:
  /// read() and mapped() are an Error.
  static std::shared_ptr<const ModelFile> parse(const std::string& path,
                                                std::span<const std::uint8_t> bytes);

  /// Tensors that a reader outside found at `path`: stored ones in `files`, which may
  /// be several, and made ones. ModelFormatError when one leaves its file.
  static std::shared_ptr<const ModelFile> from_tensors(
      const std::string& path, const std::string& container,
      std::vector<std::shared_ptr<const MappedFile>> files, std::vector<TensorInfo> tensors,
      double layer_norm_eps);

  std::string path;
  std::string container;                          // "GGUF v3", "rwkv.cpp 101", "PyTorch"
  std::string architecture;                       // GGUF general.architecture; "" in .bin
  std::map<std::string, MetadataValue> metadata;  // GGUF keys, whole
  std::vector<TensorInfo> tensors;                // in file order, names unique
  std::uint64_t file_bytes = 0;
  /// rwkv.cpp stores v4's decay after -exp(), v5's after exp(-exp()) and v5.0's
  /// time_first after exp(). False where they are raw, as in checkpoints.
  bool decay_applied = false;
  std::optional<std::size_t> head_size;  // where the metadata or a shape tells it
  std::optional<double> layer_norm_eps;  // where no metadata key tells it

  const TensorInfo* find(const std::string& name) const noexcept;

  /// Copies bytes [begin, begin + n) of a stored tensor. A file that became shorter
  /// since it was opened is a ModelFormatError, not a crash.
  void read(const TensorInfo& tensor, std::uint64_t begin, std::size_t n, void* out) const;

  /// The tensor's bytes in the mapped file (for mmap=True). Call check_size()
  /// before a batch of accesses: reading past a shrunk file's end would trap.
  const std::uint8_t* mapped(const TensorInfo& tensor) const;
  void check_size() const;

  // For the readers.
  void add(TensorInfo tensor);  // ModelFormatError when the name is there already
  std::vector<std::shared_ptr<const MappedFile>> files;

 private:
  const MappedFile& file_of(const TensorInfo& tensor) const;

  std::map<std::string, std::size_t> index_;
};

}  // namespace rwkvcpp
