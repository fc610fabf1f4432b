"""Embeddings: a text as one vector of length 1, whose direction says what the text is about.

It is the mean, over the tokens of the text, of what the head would meet after each: the vector
behind the last layer norm. What is made is the sum, in float64, from the first token to the last.
It does not depend on how a text was cut or on what was read together with it, and brought to
length 1 it is the mean.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rwkvcpp.model import Model, Tokens
    from rwkvcpp.state import State

Text: TypeAlias = "str | bytes | Tokens"
TokenRow: TypeAlias = "NDArray[np.int32]"

CALL_SECONDS = 0.1  # others who compute on the model wait so long, about: an engine reads for 0.2
FIRST_ROWS = 32  # until a rate is known
LEAST_ROWS = 16  # fewer would read the weights too often
MOST_ROWS = 128  # for which the model reads its weights once
MOST_TEXTS = 16  # at once: each has a state


def embed(
    model: Model,
    rows: Sequence[TokenRow],
    *,
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> NDArray[np.float32]:
    """The embeddings of texts, float32 [n_texts, n_embd].

    turn: what each call of the model stands in; it may wait there, or raise when nobody does.
    """
    readers = [_Reader(model, row) for row in rows]
    waiting = deque(readers)
    n_rows = FIRST_ROWS
    while waiting:
        with turn():
            measured = _read_some(model, waiting, n_rows)
        n_rows = _rows_for(measured)
    return np.stack([_unit(reader.sum) for reader in readers])


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    length = math.sqrt(math.fsum(vector * vector))
    return (vector / (length or 1)).astype(np.float32)


class _Reader:
    """A text on its way through the model; its state lives no longer than that."""

    def __init__(self, model: Model, tokens: TokenRow) -> None:
        self.sum = np.zeros(model.n_embd)
        self._model = model
        self._unread = tokens
        self._state: State | None = None

    @property
    def is_done(self) -> bool:
        return len(self._unread) == 0

    def next(self, n_rows: int) -> tuple[TokenRow, State]:
        """What is read now."""
        if self._state is None:
            self._state = self._model.initial_state()
        return self._unread[:n_rows], self._state

    def add(self, hidden: NDArray[np.float32]) -> None:
        """What the head would have met after each of them."""
        for row in hidden:
            self.sum += row
        self._unread = self._unread[len(hidden) :]
        if self.is_done:
            self._state = None


def _read_some(model: Model, waiting: deque[_Reader], n_rows: int) -> tuple[int, float]:
    """One call for the first ones that wait; how many rows it took, and how many seconds.

    Seconds are those of this thread, which computes along: a turn that is waited for costs none.
    """
    feedings: list[tuple[_Reader, TokenRow, State]] = []
    n_left = n_rows
    for reader in list(waiting)[:MOST_TEXTS]:
        if n_left:
            tokens, state = reader.next(n_left)
            feedings.append((reader, tokens, state))
            n_left -= len(tokens)
    begun = time.thread_time()
    hidden = model._native.hidden([(tokens, state._native) for _, tokens, state in feedings])
    seconds = time.thread_time() - begun
    begin = 0
    for reader, tokens, _ in feedings:
        reader.add(hidden[begin : begin + len(tokens)])
        begin += len(tokens)
    while waiting and waiting[0].is_done:
        waiting.popleft()
    return n_rows - n_left, seconds


def _rows_for(measured: tuple[int, float]) -> int:
    """Rows for the next call. Many have a better rate than few, so this is never too many."""
    n_rows, seconds = measured
    return int(min(MOST_ROWS, max(LEAST_ROWS, CALL_SECONDS * n_rows / max(seconds, 1e-9))))


def is_one(given: Text | Sequence[Text]) -> bool:
    """Whether this is one text, or one row of tokens, and not a list of them."""
    if isinstance(given, np.ndarray):
        return given.ndim == 1
    if isinstance(given, (str, bytes)):
        return True
    if not isinstance(given, Sequence):
        raise TypeError(
            f"expected a text, its token ids, or a list of such, got {type(given).__name__}"
        )
    if not given:
        raise ValueError("no text was given, expected at least one")
    return isinstance(given[0], (int, np.integer))


def token_row(model: Model, text: Text, where: str) -> TokenRow:
    """The tokens of one text as an array; `where` says in messages which one it is."""
    tokens = model.tokenizer.encode(text) if isinstance(text, (str, bytes)) else text
    row = np.asarray(tokens)
    if row.size == 0:
        raise ValueError(f"{where} has no tokens, expected at least one")
    if row.ndim != 1 or row.dtype.kind not in "iu":
        raise TypeError(
            f"{where} is {row.dtype} {list(row.shape)}, expected a text or one row of integers"
        )
    wrong = np.flatnonzero((row < 0) | (row >= model.n_vocab))
    if len(wrong):
        raise IndexError(
            f"token {wrong[0]} of {where} is {row[wrong[0]]}, expected 0 to {model.n_vocab - 1}"
        )
    return row.astype(np.int32)
