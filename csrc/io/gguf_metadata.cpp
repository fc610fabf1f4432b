#include "io/gguf_metadata.h"

#include <iterator>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/printable.h"
#include "io/tensor_entry.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kLongestKey = 65535;
constexpr std::uint64_t kMaxArray = 1 << 24;  // the largest vocabularies have 2^18 tokens

std::string_view read_string(ByteReader& reader) {
  const auto n = reader.number<std::uint64_t>("the length of a string");
  return reader.text(n, "a string");
}

// ---- how each type is kept --------------------------------------------------

bool read_bool(ByteReader& reader) {
  const auto byte = reader.number<std::uint8_t>("a bool");
  if (byte > 1) reader.fail("a bool is " + std::to_string(byte) + ", expected 0 or 1");
  return byte == 1;
}

template <class T>
using Widest =
    std::conditional_t<std::is_floating_point_v<T>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;

template <class T>
MetadataValue scalar(ByteReader& reader) {
  return static_cast<Widest<T>>(reader.number<T>("a number"));
}

template <>
MetadataValue scalar<bool>(ByteReader& reader) {
  return read_bool(reader);
}

template <>
MetadataValue scalar<std::string>(ByteReader& reader) {
  return std::string(read_string(reader));
}

template <class T>
std::int64_t array_integer(ByteReader& reader) {
  const T value = reader.number<T>("an array's element");
  if (!std::in_range<std::int64_t>(value)) {
    reader.unsupported("an array's element is " + std::to_string(value) + ", expected below 2^63");
  }
  return static_cast<std::int64_t>(value);
}

template <>
std::int64_t array_integer<bool>(ByteReader& reader) {
  return read_bool(reader) ? 1 : 0;
}

// `n` was checked against the bytes left: the reservation is bounded by the file.
template <class T>
MetadataValue array(ByteReader& reader, std::uint64_t n) {
  using Element = std::conditional_t<std::is_floating_point_v<T>, double, std::int64_t>;
  std::vector<Element> values;
  values.reserve(static_cast<std::size_t>(n));
  for (std::uint64_t i = 0; i < n; ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      values.push_back(static_cast<double>(reader.number<T>("an array's element")));
    } else {
      values.push_back(array_integer<T>(reader));
    }
  }
  return values;
}

template <>
MetadataValue array<std::string>(ByteReader& reader, std::uint64_t n) {
  std::vector<std::string> values;
  values.reserve(static_cast<std::size_t>(n));
  for (std::uint64_t i = 0; i < n; ++i) values.emplace_back(read_string(reader));
  return values;
}

struct ValueType {
  std::size_t min_bytes;  // of one value in the file; a string is at least its length
  MetadataValue (*scalar)(ByteReader& reader);
  MetadataValue (*array)(ByteReader& reader, std::uint64_t n);
};

template <class T>
constexpr ValueType value_type(std::size_t min_bytes = sizeof(T)) {
  return {min_bytes, scalar<T>, array<T>};
}

MetadataValue read_array(ByteReader& reader);
MetadataValue refuse_nested(ByteReader& reader, std::uint64_t) {
  reader.fail("is an array of arrays, expected an array of plain values");
}

// The index is the number in the file.
constexpr ValueType kValueTypes[] = {
    value_type<std::uint8_t>(),
    value_type<std::int8_t>(),
    value_type<std::uint16_t>(),
    value_type<std::int16_t>(),
    value_type<std::uint32_t>(),
    value_type<std::int32_t>(),
    value_type<float>(),
    value_type<bool>(1),
    value_type<std::string>(sizeof(std::uint64_t)),
    {1, read_array, refuse_nested},
    value_type<std::uint64_t>(),
    value_type<std::int64_t>(),
    value_type<double>(),
};

const ValueType& read_type(ByteReader& reader) {
  const auto type = reader.number<std::uint32_t>("the type");
  if (type < std::size(kValueTypes)) return kValueTypes[type];
  reader.fail("has value type " + std::to_string(type) + ", expected 0 to " +
              std::to_string(std::size(kValueTypes) - 1));
}

MetadataValue read_array(ByteReader& reader) {
  const ValueType& type = read_type(reader);
  const auto n = reader.number<std::uint64_t>("the length of the array");
  if (n > kMaxArray || n > reader.left() / type.min_bytes) {
    reader.fail("is an array of " + std::to_string(n) + " elements, the file has " +
                std::to_string(reader.left()) + " bytes left and at most " +
                std::to_string(kMaxArray) + " are read");
  }
  return type.array(reader, n);
}

// ---- what lookups say -------------------------------------------------------

struct Describe {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const std::string& value) const { return quoted(value); }
  template <class T>
  std::string operator()(T value) const requires std::is_arithmetic_v<T> {
    return std::to_string(value);
  }
  template <class T>
  std::string operator()(const std::vector<T>& values) const {
    return "an array of " + std::to_string(values.size());
  }
};

[[noreturn]] void refuse_value(const ModelFile& file, const std::string& key,
                               const MetadataValue& value, const std::string& expected) {
  throw ModelFormatError(file.path + ": " + key + " is " + std::visit(Describe(), value) +
                         ", expected " + expected);
}

const MetadataValue* find_value(const ModelFile& file, const std::string& key) {
  const auto found = file.metadata.find(key);
  return found != file.metadata.end() ? &found->second : nullptr;
}

// Writers differ in signedness: 64 may come as u32, i32 or u64.
std::optional<std::uint64_t> as_unsigned(const MetadataValue& value) {
  if (const auto* n = std::get_if<std::uint64_t>(&value)) return *n;
  const auto* n = std::get_if<std::int64_t>(&value);
  if (n != nullptr && *n >= 0) return static_cast<std::uint64_t>(*n);
  return std::nullopt;
}

}  // namespace

void read_metadata(ByteReader& reader, std::uint64_t n_pairs, ModelFile& file) {
  for (std::uint64_t i = 0; i < n_pairs; ++i) {
    reader.enter("metadata " + std::to_string(i) + " of " + std::to_string(n_pairs));
    const auto length = reader.number<std::uint64_t>("the length of the key");
    const std::string key = read_name(reader, length, kLongestKey, "the key");
    reader.enter("metadata " + key);
    if (file.metadata.contains(key)) reader.fail("is there twice, expected once");
    file.metadata.emplace(key, read_type(reader).scalar(reader));
  }
}

std::optional<std::string> metadata_string(const ModelFile& file, const std::string& key) {
  const MetadataValue* value = find_value(file, key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  refuse_value(file, key, *value, "a string");
}

std::optional<std::uint64_t> metadata_integer(const ModelFile& file, const std::string& key,
                                              std::uint64_t min, std::uint64_t max) {
  const MetadataValue* value = find_value(file, key);
  if (value == nullptr) return std::nullopt;
  const auto n = as_unsigned(*value);
  if (n && *n >= min && *n <= max) return n;
  refuse_value(file, key, *value,
               "an integer from " + std::to_string(min) + " to " + std::to_string(max));
}

std::optional<double> metadata_number(const ModelFile& file, const std::string& key, double min,
                                      double max) {
  const MetadataValue* value = find_value(file, key);
  if (value == nullptr) return std::nullopt;
  const auto* x = std::get_if<double>(value);
  if (x != nullptr && *x > min && *x < max) return *x;  // NaN compares false
  refuse_value(file, key, *value,
               "a number between " + std::to_string(min) + " and " + std::to_string(max));
}

}  // namespace rwkvcpp
