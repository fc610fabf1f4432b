"""What a model notes of the inputs of its matrices is what the formulas multiply them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rwkvcpp
from tests.reference import rwkv_numpy
from tests.reference.cases import TOKENS, Case
from tests.reference.checkpoints import VERSIONS
from tests.reference.readers import read_model

ModelFile = Callable[[Case], Path]

CASES = [
    *(Case(version, "bin", "F32") for version in VERSIONS),
    Case("6", "gguf", "Q8_0", options=(("rescale_every", 2), ("every_matrix", True))),
    Case("7", "gguf", "Q5_1"),
]
FLOAT32_TOLERANCE = 1e-4  # as of logits


class Watched(np.ndarray):
    """A matrix of the reference that notes what it is multiplied with."""

    name = ""
    seen: dict[str, np.ndarray]
    rows: dict[str, int]

    def __array_finalize__(self, source: Any) -> None:
        for attribute in ("name", "seen", "rows"):
            if hasattr(source, attribute):
                setattr(self, attribute, getattr(source, attribute))

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        part.name = f"{self.name}.{'wkvrg'[index]}"  # the slices of time_maa_w2
        return part

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        assert (ufunc, method) == (np.matmul, "__call__")
        x, weights = inputs
        self.seen[self.name] = self.seen.get(self.name, 0) + np.square(x).sum(axis=0)
        self.rows[self.name] = self.rows.get(self.name, 0) + len(x)
        return np.matmul(x, np.asarray(weights))


def expected_squares(
    path: Path, windows: list[list[int]]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Sums of squares and numbers of rows of every matrix, by the float64 reference."""
    model = read_model(path)
    seen: dict[str, np.ndarray] = {}
    rows: dict[str, int] = {}
    watched = dict(model.weights)
    for name, tensor in model.weights.items():
        if is_matrix(name, tensor):
            watched[name] = np.array(tensor).view(Watched)
            watched[name].name, watched[name].seen, watched[name].rows = name, seen, rows
    for tokens in windows:
        rwkv_numpy.forward(watched, tokens, rescale_every=model.rescale_every)
    return seen, rows


def is_matrix(name: str, tensor: np.ndarray) -> bool:
    if name == "emb.weight" or tensor.ndim < 2 or 1 in tensor.shape:
        return False
    return not name.endswith(("att.r_k", "att.time_faaaa", "att.time_decay", "att.time_first"))


def assert_squares(found: Any, expected: dict[str, np.ndarray], rows: dict[str, int]) -> None:
    met = {name: sums for name, (sums, count) in found.items() if count}
    assert met.keys() == expected.keys()
    for name, sums in met.items():
        assert sums.dtype == np.float64
        assert found[name][1] == rows[name], name
        # x is off by FLOAT32_TOLERANCE of its rms: by Cauchy and Schwarz, a sum of squares by this.
        mean = expected[name].mean()
        allowed = 2 * FLOAT32_TOLERANCE * np.sqrt(expected[name] * mean)
        allowed += FLOAT32_TOLERANCE**2 * mean
        assert (np.abs(sums - expected[name]) <= allowed).all(), name


def collecting(path: Path, **options: Any) -> rwkvcpp.Model:
    return rwkvcpp.Model(path, activations="float32", collect=True, **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_squares_are_those_of_the_formulas(case: Case, model_file: ModelFile) -> None:
    path = model_file(case)
    model = collecting(path)
    windows = [TOKENS[:7], TOKENS]
    for tokens in windows:
        model.forward(tokens, model.initial_state(), all_logits=True)
    assert_squares(model.importances(), *expected_squares(path, windows))


def test_the_head_meets_only_what_logits_are_asked_for(model_file: ModelFile) -> None:
    model = collecting(model_file(CASES[0]))
    model.forward(TOKENS, model.initial_state())
    found = model.importances()
    assert found["head.weight"][1] == 1
    assert found["blocks.0.att.key.weight"][1] == len(TOKENS)


@pytest.mark.parametrize("version", ["4", "6", "7"])
@pytest.mark.parametrize("options", [{"threads": 3}, {"mmap": True}], ids=["threads", "mmap"])
def test_squares_do_not_depend_on_cuts_threads_or_pages(
    version: str, options: dict[str, Any], model_file: ModelFile
) -> None:
    path = model_file(Case(version, "bin", "Q8_0"))
    once, cut = collecting(path, threads=1), collecting(path, **options)
    tokens = TOKENS * 10
    once.forward(tokens, once.initial_state(), all_logits=True)
    state = cut.initial_state()
    for begin, end in ((0, 1), (1, 3), (3, 140), (140, 200)):
        cut.forward(tokens[begin:end], state, all_logits=True)
    expected, found = once.importances(), cut.importances()
    assert found.keys() == expected.keys()
    for name, (sums, count) in expected.items():
        assert np.array_equal(found[name][0], sums), name
        assert found[name][1] == count, name


def test_collecting_changes_no_logit(model_file: ModelFile) -> None:
    path = model_file(CASES[0])
    logits = [
        model.forward(TOKENS, model.initial_state(), all_logits=True)
        for model in (collecting(path), rwkvcpp.Model(path, activations="float32"))
    ]
    assert np.array_equal(*logits)


def test_a_model_that_does_not_collect_says_so() -> None:
    with pytest.raises(ValueError, match="collects no importances, expected one loaded with colle"):
        rwkvcpp.Model().importances()


def test_the_sums_are_copies(model_file: ModelFile) -> None:
    model = collecting(model_file(CASES[0]))
    before = model.importances()
    model.forward(TOKENS, model.initial_state())
    assert not any(sums.any() for sums, _ in before.values())
