#include "model/spelling.h"

#include <algorithm>

namespace rwkvcpp {

std::string shape_text(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (const std::size_t n : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(n);
  }
  return text + "]";
}

std::string list_text(const std::vector<std::string>& names) {
  constexpr std::size_t kListed = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kListed); ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kListed) text += " and " + std::to_string(names.size() - kListed) + " more";
  return text;
}

}  // namespace rwkvcpp
