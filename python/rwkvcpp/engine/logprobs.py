"""How likely a token was, and which others were likelier, by the model's own logits.

Before penalties, biases, temperature and cuts: what OpenAI's `logprobs` and evaluations ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.predictions import log_softmax

ROWS_AT_ONCE = 16  # 8 MiB of float64 with a vocabulary of 65,536


@dataclass(frozen=True)
class TokenLogprob:
    """A token, the logarithm of its probability, and those of the likeliest tokens, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprob(logits: NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """That of `token` by the logits [n_vocab], with the `n_top` likeliest ones."""
    return next(row_logprobs(logits[None], [token], n_top))


def row_logprobs(
    logits: NDArray[np.float32], tokens: Sequence[int], n_top: int
) -> Iterator[TokenLogprob]:
    """That of each token by the row [n_vocab] of logits that it follows."""
    for begin in range(0, len(tokens), ROWS_AT_ONCE):
        log_p = log_softmax(logits[begin : begin + ROWS_AT_ONCE])
        for row, token in zip(log_p, tokens[begin : begin + ROWS_AT_ONCE], strict=True):
            top = tuple((int(i), float(row[i])) for i in _likeliest(row, n_top))
            yield TokenLogprob(int(token), float(row[token]), top)


def _likeliest(log_p: NDArray[np.float64], n_top: int) -> NDArray[np.integer[Any]]:
    """Best first; of equals the one with the lower id."""
    n_top = min(n_top, len(log_p))
    if n_top == 0:
        return np.zeros(0, np.int64)
    least = np.partition(log_p, -n_top)[-n_top]
    among = np.flatnonzero(log_p >= least)
    return among[np.argsort(-log_p[among], kind="stable")][:n_top]
