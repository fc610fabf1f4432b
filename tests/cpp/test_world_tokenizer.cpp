#include <stdexcept>

#include "doctest.h"
#include "text/world_tokenizer.h"

namespace rwkvcpp {
namespace {

TEST_CASE("the longest token wins, bytes above 127 included") {
  const WorldTokenizer t({"", "a", "ab", "abcd", "b", "c", "\xff", "\xff\x80", "d"});
  CHECK(t.encode("abcd") == std::vector<TokenId>{3});
  CHECK(t.encode("abca") == std::vector<TokenId>{2, 5, 1});
  CHECK(t.encode("\xff\x80\xff") == std::vector<TokenId>{7, 6});
  CHECK(t.encode("").empty());
  const std::vector<TokenId> ids = {3, 7, 0};
  CHECK(t.decode(ids) == "abcd\xff\x80");
}

TEST_CASE("what cannot be encoded or decoded is named") {
  const WorldTokenizer t({"", "a"});
  CHECK_THROWS_WITH_AS(t.encode("az"),
                       "byte 1 of the text is 122, and no token of this vocabulary begins with it",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(t.token_bytes(2), "token is 2, expected 0 to 1", std::out_of_range);
  CHECK_THROWS_WITH_AS(t.token_bytes(-1), "token is -1, expected 0 to 1", std::out_of_range);
  CHECK_THROWS_WITH_AS(WorldTokenizer({"x", "", "x"}), "tokens 0 and 2 are the same bytes",
                       std::invalid_argument);
}

TEST_CASE("every byte is a token of the byte vocabulary") {
  const WorldTokenizer t = WorldTokenizer::bytes_only();
  CHECK(t.n_vocab() == 256);
  CHECK(t.encode(std::string_view("\0\x80\xff", 3)) == std::vector<TokenId>{0, 128, 255});
}

}  // namespace
}  // namespace rwkvcpp
