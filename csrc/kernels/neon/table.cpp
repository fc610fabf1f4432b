#include "kernels/generic/table.h"
#include "kernels/neon/simd.h"

namespace rwkvcpp::kernels {

KernelTable neon_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "neon";
  fill_products<Neon>(table);
  fill_rows<Neon>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
