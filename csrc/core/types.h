// Names for numbers that cross layers.
#pragma once

#include <cstdint>

namespace rwkvcpp {

using TokenId = std::int32_t;

}  // namespace rwkvcpp
