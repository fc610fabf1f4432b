"""The tree finds what a dictionary of all rows would, and is never larger than it has to be."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from rwkvcpp.token_tree import TOKEN_BYTES, Node, TokenTree, packed

# Few tokens, so that rows share prefixes, and with bytes that are alike: only whole tokens count.
rows = st.lists(st.sampled_from([0, 1, 256, 65536]), max_size=8).map(packed)


def nodes(node: Node[int]) -> Iterable[Node[int]]:
    yield node
    for child in node.children.values():
        yield from nodes(child)


class TreeAsDictionary(RuleBasedStateMachine):
    """Whatever is put and removed, in any order."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.tree: TokenTree[int] = TokenTree()
        self.dictionary: dict[bytes, Node[int]] = {}
        self.values: dict[bytes, int] = {}

    @rule(target=known, row=rows, value=st.integers())
    def put(self, row: bytes, value: int) -> bytes:
        self.dictionary[row] = self.tree.put(row, value)
        self.values[row] = value
        return row

    @rule(row=known)
    def remove(self, row: bytes) -> None:
        if row in self.dictionary:
            self.tree.remove(self.dictionary.pop(row))
            del self.values[row]

    @rule(row=rows)
    def search(self, row: bytes) -> None:
        expected = sorted(
            (len(known), value) for known, value in self.values.items() if row.startswith(known)
        )
        found = [(n, node.value) for n, node in self.tree.prefixes(row)]
        assert found == expected
        longest = self.tree.longest(row)
        assert (longest and (longest[0], longest[1].value)) == (expected[-1] if expected else None)

    @invariant()
    def nodes_have_a_use(self) -> None:
        root = self.tree._root
        for node in nodes(root):
            assert node is root or node.value is not None or len(node.children) > 1
            for token, child in node.children.items():
                assert child.edge[:TOKEN_BYTES] == token
                assert child.parent is node

    @invariant()
    def bytes_are_those_of_the_edges(self) -> None:
        assert self.tree.nbytes == sum(len(node.edge) for node in nodes(self.tree._root))


TreeAsDictionary.TestCase.settings = settings(deadline=None, stateful_step_count=40)
TestTreeAsDictionary = TreeAsDictionary.TestCase


@given(row=st.lists(st.integers(0, 2**32 - 1)))
def test_tokens_are_packed_in_four_bytes_each(row: list[int]) -> None:
    assert packed(row) == b"".join(token.to_bytes(TOKEN_BYTES, "little") for token in row)


def test_what_rows_share_is_kept_once() -> None:
    tree: TokenTree[int] = TokenTree()
    tree.put(packed(range(1000)), 1)
    tree.put(packed([*range(1000), 7]), 2)
    tree.put(packed([*range(500), 8]), 3)
    assert tree.nbytes == TOKEN_BYTES * 1002
