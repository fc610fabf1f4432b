"""Importances: for each input of each matrix, the mean of its square over a text.

Rounding a weight that meets large inputs does more damage, so quantizers weigh errors with these.
Inputs that go together let errors cancel: the largest directions in which they do are kept, too.
They are collected with float32 activations and go by GGUF's names of tensors, as in llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.errors import RwkvError
from rwkvcpp.file_types import HEAD, PROJECTIONS
from rwkvcpp.imatrix_directions import common_directions
from rwkvcpp.model import MatrixInputs, Model
from rwkvcpp.perplexity import Progress, Scores, score
from rwkvcpp.predictions import Plan

Floats: TypeAlias = NDArray[np.float32]

CHUNK = 512  # tokens
# Of the mean of a matrix. What ReLU² leaves at zero for a whole text may be large in another one.
FLOOR = 0.01


@dataclass(frozen=True)
class Importance:
    """Of one tensor, which holds one matrix or several."""

    sums: Floats  # [matrices, inputs], of squares
    counts: Floats  # [matrices], of tokens
    # [directions, inputs] that the inputs of a single matrix have in common, where that is known
    common: Floats | None = None

    def mean_squares(self) -> Floats:
        """[matrices, inputs], as llama.cpp takes them; 1 in a matrix that has met nothing."""
        counts = self.counts[:, None]
        return np.where(counts > 0, self.sums / np.maximum(counts, 1), np.float32(1))

    def weights(self, n_inputs: int) -> Floats:
        """[matrices, n_inputs] to weigh errors with: none is below 1 % of its matrix's mean."""
        if self.sums.size == 0 or self.sums.size % n_inputs:
            raise ValueError(
                f"there are {self.sums.size} inputs, expected a multiple of {n_inputs}"
            )
        squares = self.mean_squares().reshape(-1, n_inputs)
        means = squares.mean(axis=1, keepdims=True)
        return np.where(means > 0, np.maximum(squares, np.float32(FLOOR) * means), np.float32(1))


@dataclass(frozen=True)
class Imatrix:
    """The importances of a model, and what they were collected from."""

    tensors: Mapping[str, Importance]  # by GGUF name: "blk.0.time_mix_key.weight"
    datasets: tuple[str, ...] = ()  # names of texts
    n_chunks: int = 0
    chunk_size: int = CHUNK  # tokens


def collect(
    model: Model,
    tokens: Sequence[int],
    plan: Plan | None = None,
    *,
    dataset: str = "",
    progress: Progress | None = None,
) -> tuple[Imatrix, Scores]:
    """Importances from what `model` meets in `tokens`, and how well it predicts them.

    The model must have been made with collect=True; what it has read before counts too.
    """
    plan = plan or Plan(CHUNK)
    scores = score(model, tokens, plan, progress=progress)
    chunk_size = plan.window or CHUNK
    n_chunks = -(-len(scores.losses) // chunk_size)
    return Imatrix(dict(_importances(model)), (dataset,), n_chunks, chunk_size), scores


# RWKV-6 has five matrices in one tensor.
SLICE = re.compile(r"(blocks\.\d+\.att\.time_maa_w2)\.([wkvrg])")
SLICES = "wkvrg"


def _importances(model: Model) -> Iterator[tuple[str, Importance]]:
    """By GGUF name, in the order of the model."""
    found = model.importances()
    for name in found:
        part = SLICE.fullmatch(name)
        if part is None:
            yield _gguf_name(model, name), _importance(model, name, [found[name]])
        elif part[2] == SLICES[0]:
            parts = [found[f"{part[1]}.{letter}"] for letter in SLICES]
            yield _gguf_name(model, part[1]), _importance(model, part[1], parts)


def _importance(model: Model, name: str, parts: Sequence[MatrixInputs]) -> Importance:
    with np.errstate(over="ignore"):
        sums = np.array([part.squares for part in parts]).astype(np.float32)
    if not np.isfinite(sums).all():
        raise RwkvError(
            f"{model.path}: the squares of what tensor {name} is multiplied with add up to "
            f"{sums[~np.isfinite(sums)][0]}, expected a number that files can hold"
        )
    common = None
    if name == HEAD or PROJECTIONS.fullmatch(name):
        common = common_directions(parts[0].sketch, parts[0].n_rows)
    return Importance(sums, np.array([part.n_rows for part in parts], np.float32), common)


def _gguf_name(model: Model, name: str) -> str:
    architecture = f"rwkv{model.version.partition('.')[0]}"
    return _core.gguf_tensor_name(architecture, name) or name
