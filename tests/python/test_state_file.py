"""State files: what is written comes back, bit for bit, and damage is found wherever it strikes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import ApproximateStateWarning, Model, State, StateError
from tests.reference.cases import Case
from tests.reference.checkpoints import VERSIONS, Sizes

SMALL = Sizes(n_embd=64, n_layer=2, head_size=32, n_ffn=96)


@pytest.fixture(scope="module", params=VERSIONS)
def model(request: pytest.FixtureRequest, model_file: Callable[[Case], Path]) -> Model:
    return Model(model_file(Case(request.param, "bin", "F32", SMALL)), threads=1)


def advanced(model: Model, tokens: list[int]) -> State:
    state = model.initial_state()
    model.forward(tokens, state)
    return state


def same(one: State, other: State) -> bool:
    arrays, others = one.to_numpy(), other.to_numpy()
    return arrays.keys() == others.keys() and all((arrays[n] == others[n]).all() for n in arrays)


def test_a_state_comes_back_bit_for_bit(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved")
    loaded = model.load_state(tmp_path / "saved")
    assert same(loaded, state)
    assert loaded.n_tokens == 3
    assert loaded.tokens_hash == state.tokens_hash
    assert loaded.is_exact
    assert (model.forward([5], loaded) == model.forward([5], state)).all()


def test_bytes_are_what_the_file_has(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved")
    data = state.to_bytes()
    assert data == (tmp_path / "saved").read_bytes()
    assert same(model.state_from_bytes(data), state)


def test_a_state_that_has_seen_nothing_comes_back(model, tmp_path):
    state = model.initial_state()
    state.save(tmp_path / "saved")
    assert same(model.load_state(tmp_path / "saved"), state)


def test_float16_is_near_and_says_that_it_is_inexact(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved", dtype="float16")
    with pytest.warns(ApproximateStateWarning, match="saved as float16"):
        loaded = model.load_state(tmp_path / "saved")
    assert not loaded.is_exact
    for name, array in state.to_numpy().items():
        assert (loaded.to_numpy()[name] == array.astype(np.float16).astype(np.float32)).all(), name
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        again = model.state_from_bytes(loaded.clone().to_bytes())
    assert not again.is_exact


def test_another_dtype_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match="dtype is 'bfloat16', expected 'float32' or 'float16'"):
        model.initial_state().save(tmp_path / "saved", dtype="bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_other_weights_is_refused_with_both_names(model, model_file, tmp_path):
    model.initial_state().save(tmp_path / "saved")
    case = Case(model.version, "bin", "F32", SMALL, seed=2)
    other = Model(model_file(case), threads=1)
    with pytest.raises(StateError) as caught:
        other.load_state(tmp_path / "saved")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'saved'}: belongs to the weights of {model.path.name} ")
    assert message.endswith(f"expected those of {other.path.name} ({other.identity.description})")


def test_rwkvcpp_names_what_it_exports():
    assert rwkvcpp.Checkpoint.__name__ in rwkvcpp.__all__
