// Runs a fuzz target over every file of the folders named, without libFuzzer:
// what fuzzing once found stays tested wherever the tests run.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::vector<std::uint8_t> content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t replay(const std::filesystem::path& folder) {
  std::size_t n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::vector<std::uint8_t> bytes = content(entry.path());
    std::printf("%s\n", entry.path().c_str());  // the last line names a crash
    std::fflush(stdout);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    ++n_files;
  }
  return n_files;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t n_files = 0;
  for (int i = 1; i < argc; ++i) n_files += replay(argv[i]);
  std::printf("%zu files replayed\n", n_files);
  return n_files > 0 ? 0 : 1;  // an empty corpus tests nothing
}
