#include "io/printable.h"

#include <cstddef>
#include <cstdint>

namespace rwkvcpp {
namespace {

constexpr std::size_t kShownBytes = 80;

// The first byte decides the length, and for some also narrows the second:
// against overlong forms, surrogates and code points past U+10FFFF. C2 starts
// at A0 here, because U+0080 to U+009F are control characters.
struct Lead {
  std::uint8_t first, last;
  std::size_t length;
  std::uint8_t second_min, second_max;
};

constexpr Lead kLeads[] = {
    {0x20, 0x7E, 1, 0x00, 0x00}, {0xC2, 0xC2, 2, 0xA0, 0xBF}, {0xC3, 0xDF, 2, 0x80, 0xBF},
    {0xE0, 0xE0, 3, 0xA0, 0xBF}, {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F},
    {0xEE, 0xEF, 3, 0x80, 0xBF}, {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF},
    {0xF4, 0xF4, 4, 0x80, 0x8F},
};

const Lead* find_lead(std::uint8_t byte) noexcept {
  for (const Lead& lead : kLeads) {
    if (byte >= lead.first && byte <= lead.last) return &lead;
  }
  return nullptr;
}

// Bytes of the printable character that `text` begins with, 0 when there is none.
std::size_t character_length(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const Lead* lead = find_lead(byte(0));
  if (lead == nullptr || text.size() < lead->length) return 0;
  if (lead->length == 1) return 1;
  if (byte(1) < lead->second_min || byte(1) > lead->second_max) return 0;
  for (std::size_t i = 2; i < lead->length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return lead->length;
}

}  // namespace

bool is_printable_name(std::string_view text) noexcept {
  if (text.empty()) return false;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string quoted(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string shown = "\"";
  for (const char c : text.substr(0, kShownBytes)) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte >= 0x20 && byte <= 0x7E && c != '"' && c != '\\') {
      shown += c;
    } else {
      shown += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return shown + (text.size() > kShownBytes ? "\"..." : "\"");
}

}  // namespace rwkvcpp
