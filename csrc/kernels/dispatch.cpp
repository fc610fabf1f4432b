#include "kernels/dispatch.h"

#include <cstdlib>
#include <deque>
#include <string>

#include "core/error.h"

namespace rwkvcpp::kernels {

KernelTable scalar_table(const KernelTable& parent) noexcept;
#if defined(__x86_64__)
KernelTable avx2_table(const KernelTable& parent) noexcept;
KernelTable avxvnni_table(const KernelTable& parent) noexcept;
KernelTable avxvnni_evex_table(const KernelTable& parent) noexcept;
KernelTable avx512vnni_table(const KernelTable& parent) noexcept;
#elif defined(__aarch64__)
KernelTable neon_table(const KernelTable& parent) noexcept;
KernelTable neon_dotprod_table(const KernelTable& parent) noexcept;
#endif

namespace {

struct Entry {
  bool supported;
  KernelTable (*make)(const KernelTable& parent) noexcept;
};

std::deque<KernelTable> make_tables() {
  const CpuFeatures& cpu = cpu_features();
  static_cast<void>(cpu);
  const Entry entries[] = {
    {true, scalar_table},
#if defined(__x86_64__)
    {cpu.avx2, avx2_table},
    {cpu.avx_vnni, avxvnni_table},
    {cpu.avx512_vnni, avxvnni_evex_table},  // for tests: what has it has the next as well
    {cpu.avx512_vnni, avx512vnni_table},
#elif defined(__aarch64__)
    {cpu.neon, neon_table},
    {cpu.neon_dotprod, neon_dotprod_table},
#endif
  };
  std::deque<KernelTable> tables;
  for (const Entry& entry : entries) {
    const KernelTable parent = tables.empty() ? KernelTable{} : tables.back();
    if (entry.supported) tables.push_back(entry.make(parent));
  }
  return tables;
}

const KernelTable& choose() {
  const char* forced = std::getenv("RWKVCPP_ISA");
  if (forced == nullptr || *forced == '\0') return *supported_tables().back();
  if (const KernelTable* table = find_table(forced)) return *table;
  std::string names;
  for (const KernelTable* table : supported_tables()) {
    names += (names.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw UnsupportedError("RWKVCPP_ISA is \"" + std::string(forced) +
                         "\", expected one that this processor has: " + names);
}

}  // namespace

const std::vector<const KernelTable*>& supported_tables() {
  static const std::deque<KernelTable> tables = make_tables();
  static const std::vector<const KernelTable*> pointers = [] {
    std::vector<const KernelTable*> result;
    for (const KernelTable& table : tables) result.push_back(&table);
    return result;
  }();
  return pointers;
}

const KernelTable& active_table() {
  static const KernelTable& table = choose();
  return table;
}

const KernelTable* find_table(std::string_view isa) {
  for (const KernelTable* table : supported_tables()) {
    if (isa == table->isa) return table;
  }
  return nullptr;
}

}  // namespace rwkvcpp::kernels
