"""A radix tree over rows of tokens: which of those that have a value begin a given row?

Rows are packed, four bytes a token. An edge is a run of tokens and is compared as such: nothing is
hashed, so no row is ever taken for another, and a search costs one pass over the row, in C. Half an
edge counts for nothing: a recurrent state cannot be cut back to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Row: TypeAlias = "NDArray[np.integer[Any]]"
Value = TypeVar("Value")

TOKEN_BYTES = 4


def packed(tokens: ArrayLike) -> bytes:
    """Token ids as the bytes that trees are made of."""
    return np.asarray(tokens, np.dtype("<u4")).tobytes()


class Node(Generic[Value]):
    """The end of a row: with a value, or where rows part."""

    __slots__ = ("children", "edge", "parent", "value")

    def __init__(self, edge: bytes, parent: Node[Value] | None) -> None:
        self.edge = edge  # from the parent to here
        self.parent = parent
        self.children: dict[bytes, Node[Value]] = {}  # by the first token of their edges
        self.value: Value | None = None

    def adopt(self, child: Node[Value]) -> None:
        child.parent = self
        self.children[child.edge[:TOKEN_BYTES]] = child


class TokenTree(Generic[Value]):
    """Values by rows of tokens. No node is without use: it has a value, or two children."""

    def __init__(self) -> None:
        self._root: Node[Value] = Node(b"", None)
        self.nbytes = 0  # of all edges; what rows share is there once

    def prefixes(self, row: bytes) -> Iterator[tuple[int, Node[Value]]]:
        """(bytes, node) of every prefix of `row` that has a value, the shortest first."""
        node, at = self._root, 0
        while True:
            if node.value is not None:
                yield at, node
            child = node.children.get(row[at : at + TOKEN_BYTES])
            if child is None or not row.startswith(child.edge, at):
                return
            node, at = child, at + len(child.edge)

    def longest(self, row: bytes) -> tuple[int, Node[Value]] | None:
        """(bytes, node) of the longest prefix of `row` that has a value."""
        found = None
        for found in self.prefixes(row):  # noqa: B007 -- the last one counts
            pass
        return found

    def put(self, row: bytes, value: Value) -> Node[Value]:
        """Give `row` a value, in the place of one that it may have; the node that has it now."""
        node, at = self._root, 0
        while at < len(row):
            child = node.children.get(row[at : at + TOKEN_BYTES])
            if child is None:
                child = Node(row[at:], node)
                node.adopt(child)
                self.nbytes += len(child.edge)
            elif not row.startswith(child.edge, at):
                child = self._split(child, _shared_bytes(child.edge, row[at:]))
            node, at = child, at + len(child.edge)
        node.value = value
        return node

    def remove(self, node: Node[Value]) -> None:
        """Take a node's value away, and whatever of the tree was there for it alone."""
        node.value = None
        parent = node.parent
        if parent is None:
            return
        if not node.children:
            del parent.children[node.edge[:TOKEN_BYTES]]
            self.nbytes -= len(node.edge)
            self._join(parent)
        else:
            self._join(node)

    def _split(self, node: Node[Value], n_bytes: int) -> Node[Value]:
        """A new node in the edge to `node`, after n_bytes of it."""
        assert node.parent is not None
        middle: Node[Value] = Node(node.edge[:n_bytes], node.parent)
        node.parent.adopt(middle)
        node.edge = node.edge[n_bytes:]
        middle.adopt(node)
        return middle

    def _join(self, node: Node[Value]) -> None:
        """Make one edge of two where nothing ends or parts any more."""
        if node.parent is None or node.value is not None or len(node.children) != 1:
            return
        (child,) = node.children.values()
        child.edge = node.edge + child.edge
        node.parent.adopt(child)


def _shared_bytes(a: bytes, b: bytes) -> int:
    """Length of the tokens that two rows, different ones, begin with."""
    n = min(len(a), len(b)) // TOKEN_BYTES
    same = np.frombuffer(a, "<u4", n) == np.frombuffer(b, "<u4", n)
    return TOKEN_BYTES * (n if same.all() else int(np.argmin(same)))
