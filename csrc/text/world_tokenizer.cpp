#include "text/world_tokenizer.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace rwkvcpp {

WorldTokenizer::WorldTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  std::vector<TokenId> order;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (!tokens_[id].empty()) order.push_back(static_cast<TokenId>(id));
  }
  const auto bytes = [&](TokenId id) -> const std::string& {
    return tokens_[static_cast<std::size_t>(id)];
  };
  // char may be signed; a string_view compares as unsigned.
  std::ranges::sort(order, [&](TokenId a, TokenId b) {
    return std::string_view(bytes(a)) < std::string_view(bytes(b));
  });
  const auto twin =
      std::ranges::adjacent_find(order, [&](TokenId a, TokenId b) { return bytes(a) == bytes(b); });
  if (twin != order.end()) {
    throw std::invalid_argument("tokens " + std::to_string(*twin) + " and " +
                                std::to_string(*(twin + 1)) + " are the same bytes");
  }

  // Breadth first: each node owns the sorted tokens that begin with its prefix.
  struct Range {
    std::size_t begin, end, depth;
  };
  nodes_.push_back({});
  std::vector<Range> ranges = {{0, order.size(), 0}};
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    auto [at, end, depth] = ranges[n];
    if (at < end && bytes(order[at]).size() == depth) nodes_[n].token = order[at++];
    nodes_[n].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (at < end) {
      const char byte = bytes(order[at])[depth];
      std::size_t next = at + 1;
      while (next < end && bytes(order[next])[depth] == byte) ++next;
      nodes_.push_back({.byte = static_cast<std::uint8_t>(byte)});
      ranges.push_back({at, next, depth + 1});
      ++nodes_[n].n_children;
      at = next;
    }
  }
  first_node_.fill(0);
  for (std::uint32_t i = 0; i < nodes_[0].n_children; ++i) {
    first_node_[nodes_[nodes_[0].first_child + i].byte] = nodes_[0].first_child + i;
  }
}

WorldTokenizer WorldTokenizer::bytes_only() {
  std::vector<std::string> tokens(256);
  for (std::size_t byte = 0; byte < 256; ++byte) tokens[byte] = static_cast<char>(byte);
  return WorldTokenizer(std::move(tokens));
}

const WorldTokenizer::Node* WorldTokenizer::child(const Node& node,
                                                  std::uint8_t byte) const noexcept {
  const Node* begin = nodes_.data() + node.first_child;
  const Node* end = begin + node.n_children;
  const Node* found =
      std::lower_bound(begin, end, byte, [](const Node& n, std::uint8_t b) { return n.byte < b; });
  return found != end && found->byte == byte ? found : nullptr;
}

std::vector<TokenId> WorldTokenizer::encode(std::string_view bytes) const {
  std::vector<TokenId> ids;
  for (std::size_t at = 0; at < bytes.size();) {
    TokenId longest = -1;
    std::size_t longest_end = at;
    const std::uint32_t first = first_node_[static_cast<std::uint8_t>(bytes[at])];
    const Node* node = first != 0 ? &nodes_[first] : nullptr;
    for (std::size_t end = at + 1; node != nullptr; ++end) {
      if (node->token >= 0) {
        longest = node->token;
        longest_end = end;
      }
      if (end == bytes.size()) break;
      node = child(*node, static_cast<std::uint8_t>(bytes[end]));
    }
    if (longest < 0) {
      throw std::invalid_argument("byte " + std::to_string(at) + " of the text is " +
                                  std::to_string(static_cast<std::uint8_t>(bytes[at])) +
                                  ", and no token of this vocabulary begins with it");
    }
    ids.push_back(longest);
    at = longest_end;
  }
  return ids;
}

const std::string& WorldTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) {
    throw std::out_of_range("token is " + std::to_string(id) + ", expected 0 to " +
                            std::to_string(tokens_.size() - 1));
  }
  return tokens_[static_cast<std::size_t>(id)];
}

std::string WorldTokenizer::decode(std::span<const TokenId> ids) const {
  std::string bytes;
  for (const TokenId id : ids) bytes += token_bytes(id);
  return bytes;
}

}  // namespace rwkvcpp
