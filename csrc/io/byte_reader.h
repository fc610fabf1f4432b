// A cursor over a file's bytes that cannot leave them. Numbers are little-endian,
// as every container here has them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace rwkvcpp {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie");

class ByteReader {
 public:
  ByteReader(std::string path, std::span<const std::uint8_t> bytes)
      : path_(std::move(path)), bytes_(bytes) {}

  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t left() const noexcept { return bytes_.size() - position_; }

  /// Names the part of the file that messages speak of: "tensor 3 of 20".
  void enter(std::string part) { part_ = std::move(part); }

  template <class T>
  T number(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

  /// The next `n` bytes, still in the file.
  std::string_view text(std::uint64_t n, std::string_view what) {
    return {reinterpret_cast<const char*>(take(n, what)), static_cast<std::size_t>(n)};
  }

  void skip(std::uint64_t n, std::string_view what) { take(n, what); }

  [[noreturn]] void fail(const std::string& sentence) const {
    throw ModelFormatError(path_ + ": " + part_ + ": " + sentence);
  }

  [[noreturn]] void unsupported(const std::string& sentence) const {
    throw UnsupportedError(path_ + ": " + part_ + ": " + sentence);
  }

 private:
  const std::uint8_t* take(std::uint64_t n, std::string_view what) {
    if (n > left()) {
      fail(std::string(what) + " takes " + std::to_string(n) + " bytes from byte " +
           std::to_string(position_) + ", the file has " + std::to_string(left()) + " left");
    }
    const std::uint8_t* bytes = bytes_.data() + position_;
    position_ += static_cast<std::size_t>(n);
    return bytes;
  }

  std::string path_;
  std::string part_ = "header";
  std::span<const std::uint8_t> bytes_;
  std::size_t position_ = 0;
};

}  // namespace rwkvcpp
