#include "kernels/generic/table.h"
#include "kernels/avxvnni/simd.h"

namespace rwkvcpp::kernels {

KernelTable avxvnni_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "avxvnni";
  fill_products<AvxVnni>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
