// Greedy longest match over bytes: the tokenizer of RWKV's World vocabulary, of
// vocabularies cut from it, and of models that read plain bytes.
//
// No merges, no normalization: at each position the longest token that matches.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace rwkvcpp {

class WorldTokenizer {
 public:
  /// tokens[id] is the byte string of id; empty for ids that encode() never gives.
  /// std::invalid_argument when two ids have the same bytes.
  explicit WorldTokenizer(std::vector<std::string> tokens);

  /// 256 tokens; id = byte.
  static WorldTokenizer bytes_only();

  std::size_t n_vocab() const noexcept { return tokens_.size(); }

  /// std::invalid_argument at a byte that no token begins with.
  std::vector<TokenId> encode(std::string_view bytes) const;

  /// std::out_of_range unless 0 <= id < n_vocab().
  std::string decode(std::span<const TokenId> ids) const;
  const std::string& token_bytes(TokenId id) const;

 private:
  /// A prefix of some token. Children are consecutive, ordered by byte.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint16_t n_children = 0;
    std::uint8_t byte = 0;  // that leads here from the parent
    TokenId token = -1;     // that ends here
  };

  const Node* child(const Node& node, std::uint8_t byte) const noexcept;

  std::vector<std::string> tokens_;
  std::vector<Node> nodes_;                    // breadth first; the root is nodes_[0]
  std::array<std::uint32_t, 256> first_node_;  // the root's children by byte; 0: none
};

}  // namespace rwkvcpp
