#include "core/error.h"
#include "doctest.h"
#include "ops/device.h"

namespace rwkvcpp {
namespace {

TEST_CASE("the CPU is always there; what is not there says so") {
  CHECK(make_ops("cpu", {.n_threads = 2})->n_threads() == 2);
  CHECK_THROWS_WITH_AS(make_ops("cuda", {}),
                       "this build has no CUDA; the device \"cpu\" runs every model",
                       UnsupportedError);
  CHECK_THROWS_WITH_AS(make_ops("tpu", {}), "device is \"tpu\", expected one of cpu, cuda",
                       UnsupportedError);
}

}  // namespace
}  // namespace rwkvcpp
