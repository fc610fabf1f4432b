// A file opened for reading: copied out piece by piece, or mapped.
// All of the operating system's file calls are in mapped_file.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

namespace rwkvcpp {

class MappedFile {
 public:
  /// Throws std::filesystem::filesystem_error (path, errno) when it cannot be
  /// opened, is a directory, or is not a regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }

  /// Copies [offset, offset + n); ModelFormatError when the file ends before.
  /// Safe from several threads.
  void read(std::uint64_t offset, std::size_t n, void* out) const;

  /// The whole file, mapped read-only at the first call. Safe from several threads.
  std::span<const std::uint8_t> map() const;

  /// ModelFormatError when the file is shorter now than when it was opened.
  void check_size() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  mutable std::mutex mapping_mutex_;  // the first map() may come from several threads
  mutable const std::uint8_t* mapping_ = nullptr;
};

}  // namespace rwkvcpp
