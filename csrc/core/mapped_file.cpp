// MappedFile on POSIX: open, fstat, pread, mmap.
#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/error.h"

namespace rwkvcpp {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& path, int error) {
  throw std::filesystem::filesystem_error(what, path,
                                          std::error_code(error, std::generic_category()));
}

// O_NONBLOCK: opening a pipe that nobody writes to must not hang. Regular files
// are read as ever.
int open_for_reading(const std::string& path) {
  if (path.find('\0') != std::string::npos) fail("path contains a zero byte", path, EINVAL);
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("cannot open file", path, errno);
  return descriptor;
}

struct stat status_of(int descriptor, const std::string& path) {
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) fail("cannot read the size of file", path, errno);
  return status;
}

std::uint64_t size_of_regular_file(int descriptor, const std::string& path) {
  const struct stat status = status_of(descriptor, path);
  if (S_ISDIR(status.st_mode)) fail("cannot read a directory", path, EISDIR);
  if (!S_ISREG(status.st_mode)) fail("not a regular file", path, EINVAL);
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path), descriptor_(open_for_reading(path)) {
  try {
    size_ = size_of_regular_file(descriptor_, path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (mapping_ != nullptr) {
    ::munmap(const_cast<std::uint8_t*>(mapping_), static_cast<std::size_t>(size_));
  }
  ::close(descriptor_);
}

void MappedFile::read(std::uint64_t offset, std::size_t n, void* out) const {
  if (offset > size_ || n > size_ - offset) {
    throw ModelFormatError(path_ + ": has " + std::to_string(size_) + " bytes, expected " +
                           std::to_string(n) + " more at " + std::to_string(offset));
  }
  auto* to = static_cast<std::uint8_t*>(out);
  while (n > 0) {
    const ssize_t copied = ::pread(descriptor_, to, n, static_cast<off_t>(offset));
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0) fail("cannot read file", path_, errno);
    if (copied == 0) {
      check_size();
      throw ModelFormatError(path_ + ": changed while it was read");
    }
    to += copied;
    offset += static_cast<std::uint64_t>(copied);
    n -= static_cast<std::size_t>(copied);
  }
}

// An empty file is an empty span: mmap refuses a length of 0.
std::span<const std::uint8_t> MappedFile::map() const {
  const std::lock_guard lock(mapping_mutex_);
  const auto n = static_cast<std::size_t>(size_);
  if (mapping_ == nullptr && n > 0) {
    check_size();
    void* mapping = ::mmap(nullptr, n, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (mapping == MAP_FAILED) fail("cannot map file", path_, errno);
    mapping_ = static_cast<const std::uint8_t*>(mapping);
  }
  return {mapping_, n};
}

void MappedFile::check_size() const {
  const auto now = static_cast<std::uint64_t>(status_of(descriptor_, path_).st_size);
  if (now >= size_) return;
  throw ModelFormatError(path_ + ": is " + std::to_string(now) + " bytes now, was " +
                         std::to_string(size_) + " when it was opened");
}

}  // namespace rwkvcpp
