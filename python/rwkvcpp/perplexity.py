"""How well a model predicts a text: perplexity, bits per byte, and the distance to a reference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import UnsupportedError
from rwkvcpp.model import Model
from rwkvcpp.predictions import (
    Floats,
    ModelPredictor,
    Piece,
    Plan,
    Predictions,
    Predictor,
    Record,
    Tokens,
    kl_divergence,
)

SOFTMAX_AT_ONCE = 2**19  # doubles: they stay in cache
STRETCHES = 32
HIGHEST_LOSS = 700.0  # whose exponential is still a number

# Told how many tokens are scored, and their perplexity.
Progress: TypeAlias = Callable[[int, float], None]


@dataclass(frozen=True)
class Scores:
    """What was found for each token that was scored, in nats."""

    losses: Floats
    n_bytes: int | None  # that the tokens stand for; None: the model has no vocabulary
    reference_losses: Floats | None = None
    kl: Floats | None = None  # KL(reference || model)
    same_likeliest: NDArray[np.bool_] | None = None  # as the reference says

    def figures(self) -> dict[str, float | None]:
        """The means and their standard errors by name; an error that one token has not is None."""
        figures: dict[str, float | None] = {"tokens": len(self.losses), "bytes": self.n_bytes}
        figures |= _perplexity("perplexity", self.losses)
        if self.n_bytes:
            bits = len(self.losses) / self.n_bytes / math.log(2)
            figures |= _mean("bits_per_byte", self.losses * bits)
        if self.reference_losses is not None:
            figures |= _perplexity("reference_perplexity", self.reference_losses)
        if self.kl is not None:
            figures |= _mean("kl_mean", self.kl)
            figures |= {f"kl_p{q}": float(np.percentile(self.kl, q)) for q in (50, 99)}
            figures |= {"kl_max": float(self.kl.max())}
        if self.same_likeliest is not None:
            figures |= _mean("top1_agreement", self.same_likeliest.astype(np.float64))
        return figures


def _mean(name: str, values: Floats) -> dict[str, float | None]:
    return {name: float(values.mean()), f"{name}_error": standard_error(values)}


def _perplexity(name: str, losses: Floats) -> dict[str, float | None]:
    value, error = perplexity(float(losses.mean())), standard_error(losses)
    return {name: value, f"{name}_error": None if error is None else value * error}


def perplexity(loss: float) -> float:
    """Of a mean loss in nats; a finite number, however bad the model."""
    return math.exp(min(loss, HIGHEST_LOSS))


def standard_error(values: Floats) -> float | None:
    """Of the mean. Tokens depend on their neighbours: the means of 32 stretches are compared."""
    n = min(STRETCHES, len(values))
    if n < 2:
        return None
    means = [stretch.mean() for stretch in np.array_split(values, n)]
    return float(np.std(means, ddof=1) / math.sqrt(n))


def score(
    model: Model,
    tokens: Sequence[int],
    plan: Plan | None = None,
    *,
    reference: Predictor | None = None,
    record: Record | None = None,
    progress: Progress | None = None,
) -> Scores:
    """How well `model` predicts `tokens`, by `plan`, and how far it is from `reference`.

    record: told what the model predicts of some tokens after the other.
    progress: told how many tokens are scored, and their perplexity.
    """
    plan = plan or Plan()
    if plan.n_predicted(len(tokens)) == 0:
        raise ValueError(f"the text has {len(tokens)} tokens, expected one that can be predicted")
    if reference is not None and reference.n_vocab != model.n_vocab:
        raise ValueError(
            f"the reference has a vocabulary of {reference.n_vocab} tokens, expected "
            f"{model.n_vocab}, as {model.path.name}"
        )
    pieces = plan.pieces(tokens, model.n_vocab)
    found: dict[str, list[NDArray[Any]]] = defaultdict(list)
    n_scored, loss = 0, 0.0
    for part in _compare(pieces, ModelPredictor(model), reference, record):
        for name, values in part.items():
            found[name].append(values)
        n_scored, loss = n_scored + len(part["losses"]), loss + float(part["losses"].sum())
        if progress is not None:
            progress(n_scored, perplexity(loss / n_scored))
    targets = np.concatenate([piece.targets for piece in pieces])
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return Scores(n_bytes=_count_bytes(targets, model), **joined)


def _compare(
    pieces: Sequence[Piece], model: Predictor, reference: Predictor | None, record: Record | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """What Scores hold, of some tokens after the other."""
    theirs = reference.predictions(pieces) if reference is not None else [None] * len(pieces)
    step = max(1, SOFTMAX_AT_ONCE // model.n_vocab)
    for piece, own, other in zip(pieces, model.predictions(pieces), theirs, strict=True):
        for begin in range(0, len(piece.targets), step):
            yield _compare_rows(slice(begin, begin + step), piece, own, other, record)


def _compare_rows(
    rows: slice, piece: Piece, own: Predictions, other: Predictions | None, record: Record | None
) -> dict[str, NDArray[Any]]:
    targets, likeliest, log_p = piece.targets[rows], own.likeliest[rows], own.log_p(rows)
    each = np.arange(len(targets))
    found: dict[str, NDArray[Any]] = {"losses": -log_p[each, targets]}
    if record is not None:
        record(log_p, likeliest)
    if other is not None:
        reference = other.log_p(rows)
        found["reference_losses"] = -reference[each, targets]
        found["kl"] = kl_divergence(reference, log_p)
        found["same_likeliest"] = likeliest == other.likeliest[rows]
    return found


def _count_bytes(tokens: Tokens, model: Model) -> int | None:
    """That the tokens stand for."""
    try:
        tokenizer = model.tokenizer
    except UnsupportedError:
        return None
    counts = np.bincount(tokens)
    return sum(
        int(counts[token]) * len(tokenizer.token_bytes(int(token)))
        for token in np.flatnonzero(counts)
    )
