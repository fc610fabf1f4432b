// Which kernel tables there are, and which one is in use.
#include <algorithm>
#include <string>
#include <vector>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "quant/format.h"

using namespace rwkvcpp::kernels;

namespace {

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const KernelTable* table : supported_tables()) result.emplace_back(table->isa);
  return result;
}

}  // namespace

TEST_CASE("tables are listed slowest first, each under its own name") {
  const std::vector<std::string> order = {"scalar",     "avx2", "avxvnni",     "avxvnni_evex",
                                          "avx512vnni", "neon", "neon_dotprod"};
  std::vector<std::string> expected = order;
  std::erase_if(expected, [](const std::string& isa) { return find_table(isa) == nullptr; });
  CHECK(names() == expected);
  CHECK(names().front() == "scalar");
}

TEST_CASE("AVX-VNNI's kernels in the encoding of AVX-512 are there for tests, never the fastest") {
  const KernelTable* table = find_table("avxvnni_evex");
  CHECK((table != nullptr) == cpu_features().avx512_vnni);
  CHECK(names().back() != "avxvnni_evex");
  if (table == nullptr) return;
  // 256 bits throughout: neither products nor rows of avx512vnni.
  const KernelTable& wide = *find_table("avx512vnni");
  const KernelTable& narrow = *find_table("avx2");
  const auto q8_0 = static_cast<std::size_t>(rwkvcpp::WeightType::kQ8_0);
  CHECK((table->matmul[q8_0] != narrow.matmul[q8_0]));
  CHECK((table->matmul[q8_0] != wide.matmul[q8_0]));
  CHECK((table->layer_norm == narrow.layer_norm));
}
