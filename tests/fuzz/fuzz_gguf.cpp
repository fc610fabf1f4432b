// libFuzzer on the GGUF reader. The magic is put in front, so that every input
// gets past the choice of the reader.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz_model_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> bytes(data, data + size);
  const std::string magic = "GGUF";
  std::copy_n(magic.begin(), std::min(magic.size(), size), bytes.begin());
  rwkvcpp::fuzz::check_file("fuzz.gguf", bytes);
  return 0;
}
