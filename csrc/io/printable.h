// Text found in a file: checked before it becomes a name, quoted before it is shown.
#pragma once

#include <string>
#include <string_view>

namespace rwkvcpp {

/// Well-formed UTF-8 without control characters, and not empty.
bool is_printable_name(std::string_view text) noexcept;

/// `text` in double quotes, cut at 80 bytes; what is not plain ASCII as \xNN.
std::string quoted(std::string_view text);

}  // namespace rwkvcpp
