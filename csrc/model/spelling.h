// Shapes and lists of names, as error messages spell them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace rwkvcpp {

/// "[64, 2560]"
std::string shape_text(std::span<const std::size_t> shape);

/// "a, b, c and 12 more": the first ten, so that a message stays readable.
std::string list_text(const std::vector<std::string>& names);

}  // namespace rwkvcpp
