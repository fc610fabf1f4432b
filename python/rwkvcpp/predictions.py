"""What a model predicts of a text, piece by piece: which tokens, from what, and how likely.

Every token but the first is predicted exactly once. One state reads the whole text, as an RNN can;
or each window of it is read from the initial state, to compare with models that need windows. What
counts of a window is what follows each of its tokens, as far as no earlier window has predicted it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import RwkvError
from rwkvcpp.model import Model

Tokens: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]

MOST_ROWS = 512  # of one call
MOST_LOGITS = 2**24  # and 64 MiB: 256 rows of a vocabulary of 65,536


# ---- which tokens ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Tokens that go through a model in one call, and what follows each of them."""

    context: Tokens | None  # read before, from the initial state; None: the state goes on
    inputs: Tokens
    targets: Tokens
    position: int  # of the first target, in the text


@dataclass(frozen=True)
class Plan:
    """Which tokens of a text are predicted, and what a state has read before each.

    window: tokens that a state reads before the next one begins; None: one state reads them all.
    stride: tokens from the beginning of a window to that of the next; None: the window.
    begin: a token that every state reads first, so that the text's first token is predicted too. It
        is one of the window's tokens.
    """

    window: int | None = None
    stride: int | None = None
    begin: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}, expected at least 1")
        if self.stride is not None and self.window is None:
            raise ValueError(f"stride is {self.stride} without a window, expected both or none")
        if self.stride is not None and not 1 <= self.stride <= (self.window or 0):
            raise ValueError(f"stride is {self.stride}, expected 1 to the window, {self.window}")

    def n_predicted(self, n_tokens: int) -> int:
        """How many of the first `n_tokens` of a text are predicted."""
        return max(0, n_tokens - self._n_unpredicted)

    def first(self, tokens: Sequence[int], n_predicted: int) -> Sequence[int]:
        """The beginning of a text, of which at most `n_predicted` tokens are predicted."""
        return tokens[: n_predicted + self._n_unpredicted]

    @property
    def _n_unpredicted(self) -> int:
        return 1 if self.begin is None else 0

    def pieces(self, tokens: Sequence[int], n_vocab: int) -> list[Piece]:
        """All that is to be predicted, in the order of the text; each piece fits into memory."""
        n_rows = max(1, min(MOST_ROWS, MOST_LOGITS // n_vocab))
        first = [] if self.begin is None else [self.begin]
        read = np.array([*first, *tokens], np.int32)
        pieces = []
        for begin, done, end in self._windows(len(read) - 1):
            inputs = read[begin:end].copy()
            inputs[: len(first)] = first
            for at in range(done, end, n_rows):
                stop = min(at + n_rows, end)
                context = inputs[: at - begin] if at == done else None
                now, position = inputs[at - begin : stop - begin], at + 1 - len(first)
                pieces.append(Piece(context, now, read[at + 1 : stop + 1], position))
        return pieces

    def _windows(self, n: int) -> Iterator[tuple[int, int, int]]:
        """Of n tokens that something follows: where windows begin, what is done, where they end."""
        window = n if self.window is None else self.window
        end = 0
        for begin in range(0, n, self.stride or max(1, window)):
            if end == n:
                return
            done, end = end, min(begin + window, n)
            yield begin, done, end


# ---- how likely ------------------------------------------------------------------------------


class Predictions(Protocol):
    """Of the targets of one piece."""

    @property
    def likeliest(self) -> NDArray[np.integer[Any]]:
        """For each target, the token with the highest probability."""

    def log_p(self, rows: slice) -> Floats:
        """Logarithms of the probabilities of all tokens, [rows, n_vocab]."""


class Predictor(Protocol):
    """Something that predicts: a model, or what a file remembers of one."""

    @property
    def n_vocab(self) -> int:
        """Tokens that have a probability."""

    def predictions(self, pieces: Sequence[Piece]) -> Iterator[Predictions]:
        """Of every piece; they must be all of a plan, in order."""


# Told what is predicted of some targets after the other: as log_p() and likeliest give it.
Record: TypeAlias = Callable[[Floats, NDArray[np.integer[Any]]], None]


class ModelPredictor:
    """A model's predictions, made when they are asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def n_vocab(self) -> int:
        return self._model.n_vocab

    def predictions(self, pieces: Sequence[Piece]) -> Iterator[Predictions]:
        state = self._model.initial_state()
        for piece in pieces:
            if piece.context is not None:
                state = self._model.initial_state()
                if len(piece.context):
                    self._model.forward(piece.context, state)
            logits = self._model.forward(piece.inputs, state, all_logits=True)
            self._check(logits, piece)
            yield _ModelPredictions(logits)

    def _check(self, logits: NDArray[np.float32], piece: Piece) -> None:
        finite = np.isfinite(logits)
        if finite.all():
            return
        row, token = (int(i) for i in np.argwhere(~finite)[0])
        raise RwkvError(
            f"{self._model.path}: of the logits for token {piece.position + row} of the text, "
            f"number {token} is {logits[row, token]}, expected a finite number"
        )


@dataclass(frozen=True)
class _ModelPredictions:
    logits: NDArray[np.float32]

    @cached_property
    def likeliest(self) -> NDArray[np.intp]:
        likeliest: NDArray[np.intp] = self.logits.argmax(axis=1)
        return likeliest

    def log_p(self, rows: slice) -> Floats:
        return log_softmax(self.logits[rows])


def log_softmax(logits: NDArray[Any]) -> Floats:
    """Logarithms of the probabilities along the last axis, in float64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return x


def kl_divergence(reference: Floats, other: Floats) -> Floats:
    """KL(reference || other) along the last axis, in nats, of logarithms of probabilities."""
    kl: Floats = np.sum(np.exp(reference) * (reference - other), axis=-1)
    return np.maximum(kl, 0)  # below is rounding
