// Linked where RWKVCPP_CUDA is off.
#include "core/error.h"
#include "ops/device.h"

namespace rwkvcpp {

std::unique_ptr<Ops> make_cuda_ops(const OpsOptions&) {
  throw UnsupportedError("this build has no CUDA; the device \"cpu\" runs every model");
}

}  // namespace rwkvcpp
