"""What a model notes of the inputs of its matrices is what the formulas multiply them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import _core
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
    seen: dict[str, np.ndarray]  # sums of x x^T
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
        self.seen[self.name] = self.seen.get(self.name, 0) + x.T @ x
        self.rows[self.name] = self.rows.get(self.name, 0) + len(x)
        return np.matmul(x, np.asarray(weights))


def expected_squares(
    path: Path, windows: list[list[int]]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Sums of squares and numbers of rows of every matrix, by the float64 reference."""
    moments, rows = expected_moments(path, windows)
    return {name: np.diag(sums) for name, sums in moments.items()}, rows


def expected_moments(
    path: Path, windows: list[list[int]]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Sums of x x^T and numbers of rows."""
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
    met = {name: inputs.squares for name, inputs in found.items() if inputs.n_rows}
    assert met.keys() == expected.keys()
    for name, sums in met.items():
        assert sums.dtype == np.float64
        assert found[name].n_rows == rows[name], name
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


@pytest.mark.parametrize("version", ["6", "7"])
def test_sketches_are_second_moments_times_signs(version: str, model_file: ModelFile) -> None:
    path = model_file(Case(version, "bin", "F32"))
    model = collecting(path)
    model.forward(TOKENS, model.initial_state(), all_logits=True)
    found = model.importances()
    moments, _ = expected_moments(path, [TOKENS])
    assert moments
    for name, expected in moments.items():
        signs = _core.sketch_signs(len(expected))
        assert set(np.unique(signs)) == {-1.0, 1.0}
        # Columns add up n inputs, each off by FLOAT32_TOLERANCE of its rms.
        allowed = 4 * FLOAT32_TOLERANCE * len(expected) * np.diag(expected).mean()
        assert np.abs(found[name].sketch - expected @ signs).max() <= allowed, name


def test_signs_are_thrown_for_each_input_and_column() -> None:
    signs = _core.sketch_signs(4096).astype(np.float64)
    products = signs.T @ signs / 4096 - np.eye(signs.shape[1])
    assert np.abs(products).max() < 6 / 64  # six standard deviations
    assert np.abs(signs.mean(axis=0)).max() < 6 / 64
    assert np.array_equal(_core.sketch_signs(100), _core.sketch_signs(4096)[:100])


def test_the_head_meets_only_what_logits_are_asked_for(model_file: ModelFile) -> None:
    model = collecting(model_file(CASES[0]))
    model.forward(TOKENS, model.initial_state())
    found = model.importances()
    assert found["head.weight"].n_rows == 1
    assert found["blocks.0.att.key.weight"].n_rows == len(TOKENS)


@pytest.mark.parametrize("version", ["4", "6", "7"])
@pytest.mark.parametrize("options", [{"threads": 3}, {"mmap": True}], ids=["threads", "mmap"])
def test_sums_do_not_depend_on_cuts_threads_or_pages(
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
    for name, inputs in expected.items():
        assert np.array_equal(found[name].squares, inputs.squares), name
        assert np.array_equal(found[name].sketch, inputs.sketch), name
        assert found[name].n_rows == inputs.n_rows, name


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
    assert not any(inputs.squares.any() or inputs.sketch.any() for inputs in before.values())
