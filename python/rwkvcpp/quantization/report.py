"""What quantizing has done to a model: bytes and error of each class, and predictions of a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkvcpp.checkpoints.checkpoint import open_checkpoint
from rwkvcpp.checkpoints.lora import Adapter, with_loras
from rwkvcpp.model import Model
from rwkvcpp.perplexity import Scores, score
from rwkvcpp.predictions import ModelPredictor, Plan
from rwkvcpp.quantization.embedding import without_means
from rwkvcpp.quantization.error import sampled_rows
from rwkvcpp.quantization.matrices import Matrix, matrices

WINDOW = 512  # tokens


@dataclass(frozen=True)
class ClassReport:
    """One class of matrices in a quantized file."""

    name: str
    types: tuple[str, ...]  # the most frequent first
    n_bytes: int
    error: float  # root of the mean square, relative to the weights'


def report_classes(source: Path, target: Path, lora: Sequence[Adapter] = ()) -> list[ClassReport]:
    """Every class with a matrix that could be rounded, the largest first."""
    original = with_loras(open_checkpoint(source), lora, rounded=False)
    before = {m.name: m for m in matrices(original)}
    found: dict[str, list[Matrix]] = defaultdict(list)
    for matrix in matrices(open_checkpoint(target)):
        if matrix.is_quantized or matrix.is_low_rank:
            found[matrix.class_name].append(matrix)
    reports = [_report(name, members, before) for name, members in found.items()]
    return sorted(reports, key=lambda report: -report.n_bytes)


def _report(name: str, members: list[Matrix], before: dict[str, Matrix]) -> ClassReport:
    off, power = 0.0, 0.0
    for matrix in members:
        weights = sampled_rows(before[matrix.name].tensor)
        difference = sampled_rows(matrix.tensor) - weights
        if matrix.is_embedding:
            difference = without_means(difference)
        off += float(np.square(difference, dtype=np.float64).sum())
        power += float(np.square(weights, dtype=np.float64).sum())
    types = Counter(m.tensor.type for m in members)
    n_bytes = sum(m.n_bytes(m.tensor.type) for m in members)
    error = (off / power) ** 0.5 if power > 0 else 0.0
    return ClassReport(name, tuple(t for t, _ in types.most_common()), n_bytes, error)


def report_text(
    source: Path,
    target: Path,
    text: bytes,
    *,
    lora: Sequence[Adapter] = (),
    threads: int | None = None,
) -> Scores:
    """How both predict a text, in windows of 512 tokens, with float32 activations."""
    original = Model(source, lora=lora, threads=threads, activations="float32")
    quantized = Model(target, threads=threads, activations="float32")
    tokens = quantized.tokenizer.encode(text)
    return score(quantized, tokens, Plan(WINDOW), reference=ModelPredictor(original))
