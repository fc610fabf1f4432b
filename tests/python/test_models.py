"""Logits and states of the engine against the float64 reference, torch and trained models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from tests.data import goldens
from tests.reference import rwkv_numpy
from tests.reference.cases import (
    ALL_CASES,
    BLOCK_TYPES,
    GGUF_VERSIONS,
    TOKENS,
    Case,
    Expected,
)
from tests.reference.compare import rms, rms_per_rms, worst, worst_per_rms
from tests.reference.int8_bounds import BOUNDS, TRAINED
from tests.reference.readers import read_model
from tests.reference.trained import TRAINED_FILES, TrainedFile, story
from tests.reference.writers import FLOAT_TYPES, write_bin, write_gguf

# float32 sums of a few hundred terms, three layers deep: a few 1e-6 of the logits' rms.
FLOAT32_TOLERANCE = 1e-4

ModelFile = Callable[[Case], Path]
Reference = Callable[[Case], Expected]


def case_id(case: Case) -> str:
    return case.name


def file_id(file: TrainedFile) -> str:
    return file.path


# ---- random models of every version and type -------------------------------------------------


@pytest.mark.parametrize("case", ALL_CASES, ids=case_id)
def test_float32_activations_give_the_reference(
    case: Case, model_file: ModelFile, reference: Reference
) -> None:
    model = rwkvcpp.Model(model_file(case), activations="float32")
    assert (model.version, model.n_vocab) == (case.version, case.sizes.n_vocab)
    assert (model.n_embd, model.n_layer) == (case.sizes.n_embd, case.sizes.n_layer)
    state = model.initial_state()
    logits = model.forward(TOKENS, state, all_logits=True)
    assert logits.dtype == np.float32
    assert worst_per_rms(logits, reference(case).logits) <= FLOAT32_TOLERANCE
    assert_state_is(state, reference(case).state)


def assert_state_is(state: rwkvcpp.State, expected: dict[str, np.ndarray]) -> None:
    """The same names, shapes and values: the layout of the torch package."""
    arrays = state.to_numpy()
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert worst_per_rms(array, expected[name]) <= FLOAT32_TOLERANCE, name


BLOCK_CASES = [case for case in ALL_CASES if case.weight_type in BLOCK_TYPES]
FLOAT_CASES = [case for case in ALL_CASES if case.weight_type in FLOAT_TYPES]


@pytest.mark.parametrize("case", BLOCK_CASES, ids=case_id)
def test_int8_activations_stay_within_the_recorded_bound(
    case: Case, model_file: ModelFile, reference: Reference
) -> None:
    model = rwkvcpp.Model(model_file(case))
    logits = model.forward(TOKENS, model.initial_state(), all_logits=True)
    deviation = rms_per_rms(logits, reference(case).logits)
    assert deviation <= BOUNDS[case.weight_type][case.version]
    # Half a step of 127 in every activation cannot be free: else float32 was used.
    assert deviation >= 1e-4


@pytest.mark.parametrize("case", FLOAT_CASES, ids=case_id)
def test_float_weights_meet_float32_activations_either_way(
    case: Case, model_file: ModelFile
) -> None:
    default = rwkvcpp.Model(model_file(case))
    exact = rwkvcpp.Model(model_file(case), activations="float32")
    assert np.array_equal(
        default.forward(TOKENS, default.initial_state(), all_logits=True),
        exact.forward(TOKENS, exact.initial_state(), all_logits=True),
    )


MAPPED_CASES = [
    case
    for case in ALL_CASES
    if not case.options
    and (case.version, case.container) in (("5.2", "bin"), ("7", "gguf"))
    and case.sizes.head_size == 64
]


@pytest.mark.parametrize("case", MAPPED_CASES, ids=case_id)
def test_weights_in_mapped_pages_give_the_reference(
    case: Case, model_file: ModelFile, reference: Reference
) -> None:
    model = rwkvcpp.Model(model_file(case), mmap=True, activations="float32")
    logits = model.forward(TOKENS, model.initial_state(), all_logits=True)
    assert worst_per_rms(logits, reference(case).logits) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("version", ["5.0", "5.1", "5.2", "6", "7"])
def test_group_norm_eps_is_what_the_caller_says(version: str, model_file: ModelFile) -> None:
    path = model_file(Case(version, "bin", "F32"))
    weights = read_model(path).weights
    for eps in (64e-5, 1e-5):
        model = rwkvcpp.Model(path, group_norm_eps=eps)
        logits = model.forward(TOKENS, model.initial_state(), all_logits=True)
        expected, _ = rwkv_numpy.forward(weights, TOKENS, group_norm_eps=eps)
        assert worst_per_rms(logits, expected) <= FLOAT32_TOLERANCE, eps


def test_bonus_of_5_0_may_be_stored_raw(tmp_path: Path) -> None:
    """Some 5.0 checkpoints have time_faaaa, which is used as it is, for time_first."""
    checkpoint = Case("5.0", "bin", "F32").checkpoint()
    raw = {name.replace("time_first", "time_faaaa"): tensor for name, tensor in checkpoint.items()}
    path = tmp_path / "faaaa.bin"
    write_bin(path, raw, "F32")
    model = rwkvcpp.Model(path)
    logits = model.forward(TOKENS, model.initial_state(), all_logits=True)
    expected, _ = rwkv_numpy.forward(read_model(path).weights, TOKENS)
    assert model.version == "5.0"
    assert worst_per_rms(logits, expected) <= FLOAT32_TOLERANCE


# ---- the torch package -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "container"),
    [(v, "bin") for v in goldens.VERSIONS] + [(v, "gguf") for v in GGUF_VERSIONS],
)
def test_engine_agrees_with_the_torch_package(version: str, container: str, tmp_path: Path) -> None:
    golden = goldens.load(version)
    path = tmp_path / f"golden.{container}"
    write = {"bin": write_bin, "gguf": write_gguf}[container]
    write(path, goldens.checkpoint(version), "F32")
    model = rwkvcpp.Model(path)
    state = model.initial_state()
    logits = model.forward(golden.tokens, state, all_logits=True)
    assert worst(logits, golden.logits) <= 2e-3
    arrays = state.to_numpy()
    assert arrays.keys() == golden.state.keys()
    for name, expected in golden.state.items():
        assert worst(arrays[name], expected) <= 2e-3 * max(1.0, rms(expected)), name


# ---- trained models --------------------------------------------------------------------------


def load(shared: Path, file: TrainedFile, activations: str = "float32") -> rwkvcpp.Model:
    return rwkvcpp.Model(
        shared / file.path, activations=activations, group_norm_eps=file.group_norm_eps
    )


@pytest.mark.parametrize("file", TRAINED_FILES, ids=file_id)
def test_trained_models_give_the_reference(shared: Path, file: TrainedFile) -> None:
    model = load(shared, file)
    logits = model.forward(file.tokens(shared), model.initial_state(), all_logits=True)
    assert worst_per_rms(logits, file.reference_logits(shared)) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("file", TRAINED_FILES, ids=file_id)
def test_trained_models_give_the_expected_logits(shared: Path, file: TrainedFile) -> None:
    """Of float32 files within 1e-4; of others within what their weights lost, fed either way."""
    model = load(shared, file)
    tokens, expected = file.tokens(shared), file.expected_logits(shared)
    tolerance = file.weight_loss + 1e-4 * (rms(expected) if file.is_story_model else 1.0)
    together = model.forward(tokens, model.initial_state(), all_logits=True)
    state = model.initial_state()
    one_by_one = np.stack([model.forward([token], state) for token in tokens])
    assert worst(together[-len(expected) :], expected) <= tolerance
    assert worst(one_by_one[-len(expected) :], expected) <= tolerance


@pytest.mark.parametrize(
    "file", [file for file in TRAINED_FILES if file.weight_type in BLOCK_TYPES], ids=file_id
)
def test_trained_models_stay_within_the_recorded_int8_bound(
    shared: Path, file: TrainedFile
) -> None:
    model = load(shared, file, activations="int8")
    logits = model.forward(file.tokens(shared), model.initial_state(), all_logits=True)
    assert rms_per_rms(logits, file.reference_logits(shared)) <= TRAINED[file.path]


@pytest.mark.parametrize("weight_type", ["f16", "q8_0"])
def test_story_model_continues_greedily_as_in_float64(shared: Path, weight_type: str) -> None:
    prompt = story(shared)
    model = rwkvcpp.Model(
        shared / "demo" / f"rwkv7-stories-{weight_type}.gguf", activations="float32"
    )
    state = model.initial_state()
    logits = model.forward(prompt["tokens"], state)
    found = []
    for _ in prompt[weight_type]["greedy"]:
        found.append(int(np.argmax(logits)))
        logits = model.forward(found[-1:], state)
    assert found == prompt[weight_type]["greedy"]
    assert model.tokenizer.decode(found) == prompt[weight_type]["text"]
