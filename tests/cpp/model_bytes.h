// Model files built in memory, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "doctest.h"
#include "io/model_file.h"

namespace rwkvcpp::testing {

/// Little-endian numbers and text, one after the other.
class Bytes {
 public:
  template <class T>
  Bytes& number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    data_.append(raw, sizeof(T));
    return *this;
  }

  Bytes& text(std::string_view text) {
    data_ += text;
    return *this;
  }

  Bytes& zeros(std::size_t n) {
    data_.append(n, '\0');
    return *this;
  }

  /// GGUF's string: its length, then its bytes.
  Bytes& string(std::string_view text) { return number<std::uint64_t>(text.size()).text(text); }

  const std::string& str() const { return data_; }

 private:
  std::string data_;
};

inline std::span<const std::uint8_t> as_bytes(const std::string& data) {
  return {reinterpret_cast<const std::uint8_t*>(data.data()), data.size()};
}

/// What parsing says: "ok", or the kind of error and its sentence. Parses a copy
/// of the exact size, so that AddressSanitizer sees a byte read past the end.
inline std::string outcome(const std::string& data) {
  const std::vector<std::uint8_t> exact(data.begin(), data.end());
  try {
    ModelFile::parse("test", exact);
    return "ok";
  } catch (const ModelFormatError& e) {
    return std::string("ModelFormatError: ") + e.what();
  } catch (const UnsupportedError& e) {
    return std::string("UnsupportedError: ") + e.what();
  }
}

/// Equal to every outcome that contains the fragment; a failure prints both.
struct Contains {
  std::string fragment;

  friend bool operator==(const std::string& text, const Contains& expected) {
    return text.find(expected.fragment) != std::string::npos;
  }
  friend std::ostream& operator<<(std::ostream& out, const Contains& expected) {
    return out << "..." << expected.fragment << "...";
  }
};

inline bool is_error(const std::string& outcome) {
  return outcome.starts_with("ModelFormatError: ") || outcome.starts_with("UnsupportedError: ");
}

/// "[2, 3]", or "missing".
inline std::string shape_of(const ModelFile& file, const std::string& name) {
  const TensorInfo* tensor = file.find(name);
  if (tensor == nullptr) return "missing";
  std::string text = "[";
  for (const std::size_t n : tensor->shape) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  }
  return text + "]";
}

/// A folder of models that are not part of the project; says so when it is absent.
inline std::optional<std::filesystem::path> shared_folder(const std::string& name) {
  const char* named = std::getenv("RWKVCPP_SHARED");
#ifdef RWKVCPP_SOURCE_DIR
  const std::filesystem::path beside = std::filesystem::path(RWKVCPP_SOURCE_DIR) / ".." / "shared";
#else
  const std::filesystem::path beside = std::filesystem::path("..") / "shared";
#endif
  const std::filesystem::path folder = (named != nullptr ? named : beside) / name;
  if (std::filesystem::is_directory(folder)) return folder;
  MESSAGE("skipped: ", folder.string(), " is absent");
  return std::nullopt;
}

}  // namespace rwkvcpp::testing
