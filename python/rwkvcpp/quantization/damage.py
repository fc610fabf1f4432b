"""What rounding a part of a model does to its predictions, measured on the model itself.

A part is a class of matrices in some neighbouring layers. Only that part is rounded, everything is
computed in float32, and what counts is the divergence of the predictions from those of the model as
it is, on a text: the caller's, or one that the model has written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.checkpoints.naming import UNUSED_7
from rwkvcpp.model import Model
from rwkvcpp.perplexity import score
from rwkvcpp.predictions import ModelPredictor, Piece, Plan, Predictions
from rwkvcpp.quantization.matrices import Matrix
from rwkvcpp.sampling import Sampler, SamplingParams

Tokens = NDArray[np.int32]

SEED = 2026
WINDOW = 256  # tokens
MOST_TOKENS, FEWEST_TOKENS = 4096, 1024
WEIGHTS_TIMES_TOKENS = 2**36  # a large model reads fewer tokens, with more layers to a part
FEW_LAYERS = 8  # of which each is measured alone
BANDS = 3  # of layers behind the first one


# ---- parts -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Matrices that are measured together."""

    name: str  # "ffn.value, layers 1-8"
    matrices: tuple[Matrix, ...]


def parts(matrices: Sequence[Matrix]) -> list[Part]:
    """What is measured: a class in each layer, or in bands of layers; low ranks all at once."""
    n_layer = count_layers(matrices)
    found: dict[str, list[Matrix]] = defaultdict(list)
    for matrix in matrices:
        found[_part_name(matrix, n_layer)].append(matrix)
    return [Part(name, tuple(members)) for name, members in found.items()]


def count_layers(matrices: Sequence[Matrix]) -> int:
    return 1 + max((m.layer for m in matrices if m.layer is not None), default=0)


def _part_name(matrix: Matrix, n_layer: int) -> str:
    if matrix.is_low_rank:
        return "low-rank matrices"
    if matrix.layer is None:
        return matrix.class_name
    if n_layer <= FEW_LAYERS or matrix.layer == 0:
        return f"{matrix.class_name}, layer {matrix.layer}"
    band = (matrix.layer - 1) * BANDS // (n_layer - 1)
    return f"{matrix.class_name}, part {band + 1} of {BANDS}"


# ---- text ------------------------------------------------------------------------------------


def n_tokens_for(matrices: Sequence[Matrix]) -> int:
    """How long a text is worth reading once for each part."""
    n_weights = sum(m.tensor.n_elements for m in matrices)
    tokens = min(MOST_TOKENS, max(FEWEST_TOKENS, WEIGHTS_TIMES_TOKENS // n_weights))
    return tokens // WINDOW * WINDOW


def own_text(model: Model, n_tokens: int) -> Tokens:
    """Tokens that the model has sampled from its own distribution, in windows."""
    states = [model.initial_state() for _ in range(n_tokens // WINDOW)]
    params = (SamplingParams(top_p=1.0, seed=SEED + i) for i in range(len(states)))
    samplers = [Sampler(p) for p in params]
    windows = np.zeros((len(states), WINDOW), np.int32)  # token 0 is where texts begin
    for i in range(1, WINDOW):
        before = windows[:, i - 1]
        logits = model.forward_batch([([int(t)], s) for t, s in zip(before, states, strict=True)])
        windows[:, i] = [s.sample(row) for s, row in zip(samplers, logits, strict=True)]
    return windows.reshape(-1)


# ---- damage ----------------------------------------------------------------------------------


class _Remembered:
    """What a model predicts of the pieces of a text, kept."""

    def __init__(self, model: Model, pieces: Sequence[Piece]) -> None:
        self.n_vocab = model.n_vocab
        self._predictions = list(ModelPredictor(model).predictions(pieces))

    def predictions(self, _: Sequence[Piece]) -> Iterator[Predictions]:
        return iter(self._predictions)


def measure(
    load: Callable[..., Model],
    measured: Sequence[Part],
    probe: Callable[[Matrix], str],
    tokens: Sequence[int] | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, float]:
    """KL divergence in nats per token by part, when only that part has the types of `probe`.

    load: the model, with the options type= and activations= that Model() has.
    tokens: a text to measure on; None: what the model writes itself.
    """
    steps = len(measured) + 1
    matrices = [m for part in measured for m in part.matrices]
    model = load(activations="float32")
    n = n_tokens_for(matrices)
    text = own_text(model, n) if tokens is None else np.asarray(tokens[:n], np.int32)
    plan = Plan(WINDOW)
    reference = _Remembered(model, plan.pieces(text.tolist(), model.n_vocab))
    found: dict[str, float] = {}
    for i, part in enumerate(measured):
        if progress is not None:
            progress(i + 1, steps)
        types = {m.name: probe(m) for m in part.matrices if m.name not in UNUSED_7}
        rounded = load(type=types, activations="float32")
        kl = score(rounded, text.tolist(), plan, reference=reference).kl
        assert kl is not None  # there is a reference
        found[part.name] = float(kl.mean())
    if progress is not None:
        progress(steps, steps)
    return found
