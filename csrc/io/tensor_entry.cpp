#include "io/tensor_entry.h"

#include <limits>

#include "io/printable.h"

namespace rwkvcpp {
namespace {

// Bytes of the tensor; every intermediate product stays below 2^63.
std::uint64_t count_bytes(const ByteReader& reader, const std::string& name, const Format& format,
                          std::span<const std::uint64_t> dims) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t n_bytes = format.block_bytes;
  std::uint64_t blocks_or_rows = dims[0] / format.block_inputs;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) blocks_or_rows = dims[i];
    if (n_bytes > kMax / blocks_or_rows) {
      reader.fail("tensor " + name + " is larger than any file: dimension " + std::to_string(i) +
                  " is " + std::to_string(dims[i]));
    }
    n_bytes *= blocks_or_rows;
  }
  return n_bytes;
}

}  // namespace

std::string read_name(ByteReader& reader, std::uint64_t n, std::size_t longest,
                      std::string_view what) {
  if (n == 0 || n > longest) {
    reader.fail(std::string(what) + " is " + std::to_string(n) + " bytes long, expected 1 to " +
                std::to_string(longest));
  }
  const std::string_view name = reader.text(n, what);
  if (!is_printable_name(name)) {
    reader.fail(std::string(what) + " is " + quoted(name) + ", expected printable UTF-8");
  }
  return std::string(name);
}

TensorInfo make_tensor(const ByteReader& reader, const std::string& name, const Format& format,
                       std::span<const std::uint64_t> dims) {
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) {
      reader.fail("tensor " + name + ": dimension " + std::to_string(i) +
                  " is 0, expected 1 or more");
    }
  }
  if (dims[0] % format.block_inputs != 0) {
    reader.fail("tensor " + name + " is " + std::string(format.name) + " with rows of " +
                std::to_string(dims[0]) + ", expected a multiple of " +
                std::to_string(format.block_inputs));
  }
  const std::vector<std::size_t> shape(dims.rbegin(), dims.rend());
  return {name, name, format.type, shape, 0, count_bytes(reader, name, format, dims)};
}

std::string readable_formats() {
  std::string names;
  for (const Format& format : formats()) {
    names += (names.empty() ? "" : ", ") + std::string(format.name);
  }
  return names;
}

}  // namespace rwkvcpp
