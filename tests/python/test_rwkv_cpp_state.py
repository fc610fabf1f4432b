"""rwkv.cpp's raw floats, against the float64 reference laid out as rwkv.cpp's documents say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rwkvcpp import Model, StateError
from tests.reference import rwkv_numpy
from tests.reference.cases import Case
from tests.reference.checkpoints import VERSIONS, Sizes
from tests.reference.readers import read_model

SIZES = Sizes(n_embd=32, n_layer=3, head_size=8, n_ffn=64, n_vocab=40)
TOKENS = [1, 2, 3, 39, 4]

# Of a layer, in order. Matrices lie there as in the torch package.
PARTS = {
    "4": ("ffn.x", "att.x", "att.aa", "att.bb", "att.pp"),
    "5": ("ffn.x", "att.x", "att.wkv"),
    "6": ("ffn.x", "att.x", "att.wkv"),
    "7": ("ffn.x", "att.x", "att.wkv"),
}


@pytest.fixture(scope="module", params=VERSIONS)
def path(request: pytest.FixtureRequest, model_file: Callable[[Case], Path]) -> Path:
    return model_file(Case(request.param, "bin", "F32", SIZES))


def laid_out(version: str, state: rwkv_numpy.State) -> np.ndarray:
    names = [f"blocks.{i}.{p}" for i in range(SIZES.n_layer) for p in PARTS[version[0]]]
    return np.concatenate([state[name].reshape(-1) for name in names])


def test_the_floats_are_those_of_the_reference(path):
    model = Model(path, threads=1)
    state = model.initial_state()
    model.forward(TOKENS, state)
    weights = read_model(path).weights
    _, expected = rwkv_numpy.forward(weights, TOKENS)
    floats = state.to_rwkv_cpp()
    assert floats.dtype == np.float32
    per_layer = 5 if model.version == "4" else SIZES.head_size + 2
    assert floats.shape == (SIZES.n_layer * per_layer * SIZES.n_embd,)
    assert np.allclose(floats, laid_out(model.version, expected), rtol=1e-4, atol=1e-4)


def test_a_new_state_is_what_rwkv_cpp_begins_with(path):
    model = Model(path, threads=1)
    floats = model.initial_state().to_rwkv_cpp()
    expected = np.zeros((SIZES.n_layer, floats.size // SIZES.n_layer), np.float32)
    if model.version == "4":
        expected[:, 4 * SIZES.n_embd :] = -1e30
    assert (floats == expected.reshape(-1)).all()


def test_floats_come_back(path, tmp_path):
    model = Model(path, threads=1)
    state = model.initial_state()
    model.forward(TOKENS, state)
    state.to_rwkv_cpp().tofile(tmp_path / "state.bin")
    again = model.state_from_rwkv_cpp(np.fromfile(tmp_path / "state.bin", np.float32))
    assert (model.forward([7], again) == model.forward([7], state)).all()


def test_another_number_of_floats_is_refused(path):
    model = Model(path, threads=1)
    n_values = model.initial_state().to_rwkv_cpp().size
    for n in (0, 1, n_values - 1, n_values + 1):
        with pytest.raises(StateError, match=rf"rwkv\.cpp has {n} values, expected {n_values} for"):
            model.state_from_rwkv_cpp(np.zeros(n, np.float32))
