#include "kernels/generic/table.h"
#include "kernels/neon_dotprod/simd.h"

namespace rwkvcpp::kernels {

KernelTable neon_dotprod_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "neon_dotprod";
  fill_products<NeonDotprod>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
