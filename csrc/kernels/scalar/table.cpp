#include "kernels/generic/table.h"
#include "kernels/scalar/simd.h"

namespace rwkvcpp::kernels {

KernelTable scalar_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "scalar";
  fill_products<Scalar>(table);
  fill_rows<Scalar>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
