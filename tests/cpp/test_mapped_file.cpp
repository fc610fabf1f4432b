// MappedFile: what is read, and what is said when the operating system says no.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/mapped_file.h"
#include "doctest.h"

namespace {

namespace fs = std::filesystem;
using rwkvcpp::MappedFile;
using rwkvcpp::ModelFormatError;

// A folder of its own, removed with everything in it.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "rwkvcpp-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }

  std::string with_file(const std::string& content) const {
    const fs::path path = path_ / "file";
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

int open_errno(const std::string& path) {
  try {
    MappedFile file(path);
    return 0;
  } catch (const fs::filesystem_error& e) {
    CHECK(e.path1() == fs::path(path));
    return e.code().value();
  }
}

}  // namespace

TEST_CASE("mapped file: bytes come by copy and by mapping") {
  const Folder folder;
  const MappedFile file(folder.with_file("0123456789"));
  CHECK(file.size() == 10);

  char copied[4] = {};
  file.read(3, 4, copied);
  CHECK(std::string(copied, 4) == "3456");
  file.read(10, 0, copied);  // nothing, at the very end

  const auto mapped = file.map();
  CHECK(std::string(mapped.begin(), mapped.end()) == "0123456789");
  CHECK(file.map().data() == mapped.data());
}

TEST_CASE("mapped file: an empty file is an empty span") {
  const Folder folder;
  const MappedFile file(folder.with_file(""));
  CHECK(file.size() == 0);
  CHECK(file.map().empty());
}

TEST_CASE("mapped file: what cannot be opened is named with its errno") {
  const Folder folder;
  CHECK(open_errno((folder.path() / "absent").string()) == ENOENT);
  CHECK(open_errno(folder.path().string()) == EISDIR);
  CHECK(open_errno("") == ENOENT);
  CHECK(open_errno(folder.with_file("x") + std::string("\0y", 2)) == EINVAL);
}

TEST_CASE("mapped file: a pipe without a writer is refused at once") {
  const Folder folder;
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(open_errno(pipe) == EINVAL);
}

TEST_CASE("mapped file: reading past the end is an error with the sizes") {
  const Folder folder;
  const MappedFile file(folder.with_file("0123456789"));
  char out[16] = {};
  CHECK_THROWS_WITH_AS(file.read(8, 3, out),
                       doctest::Contains("has 10 bytes, expected 3 more at 8"), ModelFormatError);
  CHECK_THROWS_AS(file.read(11, 0, out), ModelFormatError);
  CHECK_THROWS_AS(file.read(UINT64_MAX, 16, out), ModelFormatError);
}

TEST_CASE("mapped file: a file that shrinks is an error, not a crash") {
  const Folder folder;
  const std::string path = folder.with_file(std::string(10000, 'x'));
  const MappedFile file(path);
  fs::resize_file(path, 5000);

  const char* message = "is 5000 bytes now, was 10000 when it was opened";
  std::vector<char> out(10000);
  CHECK_THROWS_WITH_AS(file.read(0, out.size(), out.data()), doctest::Contains(message),
                       ModelFormatError);
  CHECK_THROWS_WITH_AS(file.check_size(), doctest::Contains(message), ModelFormatError);
  CHECK_THROWS_WITH_AS(file.map(), doctest::Contains(message), ModelFormatError);
  file.read(0, 5000, out.data());  // what is left can be read
}

TEST_CASE("mapped file: a file that grows stays what it was") {
  const Folder folder;
  const std::string path = folder.with_file("0123");
  const MappedFile file(path);
  fs::resize_file(path, 9000);
  file.check_size();
  CHECK(file.map().size() == 4);
}

TEST_CASE("mapped file: threads that map for the first time get one mapping") {
  const Folder folder;
  const MappedFile file(folder.with_file(std::string(100000, 'x')));
  std::vector<const std::uint8_t*> seen(8);
  {
    std::vector<std::jthread> threads;
    for (auto& pointer : seen) {
      threads.emplace_back([&file, &pointer] { pointer = file.map().data(); });
    }
  }
  for (const auto* pointer : seen) CHECK(pointer == seen[0]);
}
