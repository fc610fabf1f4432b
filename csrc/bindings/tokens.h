// Token ids as Python gives them.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "model/model.h"

namespace rwkvcpp {

/// Integers of any kind, in a sequence or an array [n]; TypeError for anything
/// else (booleans, floats and text included), IndexError when out of range.
std::vector<TokenId> tokens_from(const pybind11::handle& tokens, const Model& model);

}  // namespace rwkvcpp
