"""Snapshots in memory: states and logits by the tokens that led to them, within a budget of bytes.

What was used longest ago goes first. One lock, and nothing is copied under it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.state import State
from rwkvcpp.token_tree import Node, TokenTree


class Snapshot:
    """What a model knew after some tokens. It never changes, so threads may share it."""

    def __init__(self, n_tokens: int, state: State, logits: NDArray[np.float32]) -> None:
        """A snapshot of a state and logits that nobody else will use, after so many tokens."""
        self.n_tokens = n_tokens
        self._state = state
        self._logits = logits
        self._state_lock = threading.Lock()  # a state is one thread's at a time, even to be read

    @property
    def nbytes(self) -> int:
        """Bytes of the state and the logits."""
        return self._state.nbytes + self._logits.nbytes

    def state(self) -> State:
        """The state: a copy of one's own, to go on with."""
        with self.reading() as state:
            return state.clone()

    @contextmanager
    def reading(self) -> Iterator[State]:
        """The state itself, which must not be changed."""
        with self._state_lock:
            yield self._state

    def logits(self) -> NDArray[np.float32]:
        """The prediction of the next token, float32 [n_vocab]; a copy."""
        return self._logits.copy()

    def __repr__(self) -> str:
        return f"<rwkvcpp.Snapshot after {self.n_tokens} tokens, {self.nbytes} bytes>"


class SnapshotMemory:
    """The snapshots used last. Rows are packed tokens, with whatever tells them apart in front."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._tree: TokenTree[Snapshot] = TokenTree()
        self._recent: OrderedDict[Node[Snapshot], Snapshot] = OrderedDict()  # the next to go first
        self._snapshot_bytes = 0
        self._lock = threading.Lock()

    def usage(self) -> tuple[int, int]:
        """Snapshots, and bytes of them and of the tokens that they are found by."""
        with self._lock:
            return len(self._recent), self._nbytes

    def longest(self, row: bytes) -> Snapshot | None:
        """The snapshot of the longest prefix of `row` that has one; it counts as used."""
        with self._lock:
            found = self._tree.longest(row)
            if found is None:
                return None
            _, node = found
            self._recent.move_to_end(node)
            return self._recent[node]

    def touch(self, row: bytes) -> bool:
        """Whether there is a snapshot of exactly this row; it counts as used."""
        with self._lock:
            found = self._tree.longest(row)
            if found is None or found[0] != len(row):
                return False
            self._recent.move_to_end(found[1])
            return True

    def fits(self, row: bytes, n_bytes: int) -> bool:
        """Whether a snapshot of so many bytes is within the budget, be it alone."""
        return len(row) + n_bytes <= self.budget

    def put(self, row: bytes, snapshot: Snapshot) -> None:
        """Keep a snapshot, in the place of one that there may be; nothing unless it fits."""
        if not self.fits(row, snapshot.nbytes):
            return
        with self._lock:
            node = self._tree.put(row, snapshot)
            replaced = self._recent.pop(node, None)
            self._recent[node] = snapshot
            self._snapshot_bytes += snapshot.nbytes - (replaced.nbytes if replaced else 0)
            while self._nbytes > self.budget:
                self._forget_oldest()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            while self._recent:
                self._forget_oldest()

    @property
    def _nbytes(self) -> int:
        return self._snapshot_bytes + self._tree.nbytes

    def _forget_oldest(self) -> None:
        node, snapshot = self._recent.popitem(last=False)
        self._tree.remove(node)
        self._snapshot_bytes -= snapshot.nbytes
